from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from anomaly_u2net.data import training_set
from anomaly_u2net.data.geometry import normalise, plan
from anomaly_u2net.data.training_set import BalancedBatches, TrainingSet, collate
from anomaly_u2net.errors import InputError
from anomaly_u2net.recipe import AugmentRecipe, InputRecipe, LossRecipe, SynthesisRecipe
from anomaly_u2net.types import ImageRecord

STILL = AugmentRecipe(flip=False, brightness=0, contrast=0)


def batches(goods: int = 7, defects: int = 3, **changes: Any) -> BalancedBatches:
    arguments = {
        "batch_size": 4,
        "defect_share": 0.5,
        "steps_per_epoch": 5,
        "seed": 11,
        **changes,
    }
    return BalancedBatches([False] * goods + [True] * defects, **arguments)


def is_defect(index: int, goods: int = 7) -> bool:
    return index >= goods


@pytest.mark.parametrize(("size", "share", "defects"), [(4, 0.5, 2), (8, 0.25, 2), (10, 0.9, 9)])
def test_every_batch_has_its_share(size: int, share: float, defects: int) -> None:
    sampler = batches(batch_size=size, defect_share=share)
    assert len(sampler) == 5
    drawn = list(sampler)
    assert len(drawn) == 5
    for batch in drawn:
        assert len(batch) == size
        assert sum(is_defect(index) for index, _ in batch) == defects


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(0, 99))
def test_no_image_is_drawn_again_before_all_were(
    goods: int, defects: int, ranks: int, seed: int
) -> None:
    """Over all processes together, at every moment, draws of a pool differ by at most one."""
    sampler = batches(goods, defects, seed=seed, ranks=ranks, batch_size=5, defect_share=0.4)
    count: Counter[int] = Counter(dict.fromkeys(range(goods + defects), 0))
    for step in range(12):
        for rank in range(ranks):
            for index, _ in sampler.batch(step, rank=rank):
                count[index] += 1
                for pool in (range(goods), range(goods, goods + defects)):
                    drawn = [count[i] for i in pool]
                    assert max(drawn) - min(drawn) <= 1


def test_passes_are_shuffled_anew_and_by_the_seed() -> None:
    def order(sampler: BalancedBatches, passes: int) -> list[int]:
        return [sampler._draw(False, n) for n in range(7 * passes)]

    first = order(batches(), 3)
    assert first[:7] != first[7:14]
    assert first[7:14] != first[14:]
    assert first != order(batches(seed=12), 3)
    assert first == order(batches(), 3)


def test_a_resumed_run_goes_on_with_the_same_batches() -> None:
    whole = batches(steps_per_epoch=12)
    expected = list(whole)
    parts = []
    for epoch in range(4):
        fresh = batches(steps_per_epoch=3)  # nothing carried over
        fresh.set_epoch(epoch)
        parts += list(fresh)
    assert parts == expected
    assert whole.batch(9) == expected[9]
    assert list(whole) == expected


def test_seeds_of_samples_never_repeat() -> None:
    sampler = batches(ranks=3)
    seeds = [
        seed
        for step in range(40)
        for rank in range(3)
        for _, seed in sampler.batch(step, rank=rank)
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**62 for seed in seeds)
    assert not set(seeds) & {seed for _, seed in batches(seed=12).batch(0)}


def test_two_processes_do_the_work_of_one_twice_as_long() -> None:
    one, two = batches(), batches(ranks=2)
    assert [one.batch(n) for n in range(6)] == [
        two.batch(step, rank=rank) for step in range(3) for rank in range(2)
    ]


@pytest.mark.parametrize(("goods", "defects"), [(0, 3), (3, 0), (0, 0)])
def test_both_kinds_are_needed(goods: int, defects: int) -> None:
    with pytest.raises(
        InputError, match=r"at least one good and one defect image .*synthesis\.share"
    ):
        batches(goods, defects)


def test_good_images_alone_make_batches_where_defects_are_made() -> None:
    sampler = batches(7, 0, good_only=True)
    assert all(len(batch) == 4 for batch in sampler)
    assert {index for batch in sampler for index, _ in batch} == set(range(7))
    mixed = batches(7, 3, good_only=True)  # real defects keep their share
    assert [mixed.batch(n) for n in range(5)] == [batches(7, 3).batch(n) for n in range(5)]
    with pytest.raises(InputError, match="got 0 good and 3 defect images"):
        batches(0, 3, good_only=True)


# --- the set --------------------------------------------------------------------------------


@pytest.fixture
def records(tmp_path: Path) -> list[ImageRecord]:
    """A good image and one with a square defect, 40 × 60."""
    rng = np.random.default_rng(0)
    made = []
    for label in ("good", "dent"):
        path, mask = tmp_path / f"{label}.png", tmp_path / f"{label}_mask.png"
        Pillow.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
        square = np.zeros((40, 60), np.uint8)
        square[10:30, 20:44] = 255
        Pillow.fromarray(square).save(mask)
        made.append(ImageRecord(path, "part", "train", label, None if label == "good" else mask))
    return made


def pixels(record: ImageRecord) -> np.ndarray:
    return np.asarray(Pillow.open(record.path))


def test_an_item_is_the_fitted_image_its_mask_and_weight(records: list[ImageRecord]) -> None:
    training = TrainingSet(records, fit=InputRecipe(size=(64, 64)), augmentation=STILL)
    assert len(training) == 2
    geometry = plan((40, 60), "letterbox", size=(64, 64))
    for index, record in enumerate(records):
        image, mask, weight = training[index, 5]
        expected = normalise(geometry.image(pixels(record)))
        np.testing.assert_array_equal(image.numpy(), expected)
        np.testing.assert_array_equal(weight[0].numpy(), geometry.weight())
        square = np.zeros((40, 60), bool)
        square[10:30, 20:44] = record.defective
        np.testing.assert_array_equal(mask[0].numpy() == 1, geometry.mask(square))
        assert image.shape == (3, 64, 64)
        assert mask.shape == weight.shape == (1, 64, 64)
        assert image.dtype == mask.dtype == weight.dtype == torch.float32
        assert set(mask.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("cache", [10**9, 0, 20_000])
def test_the_same_key_gives_the_same_tensors(
    records: list[ImageRecord], monkeypatch: pytest.MonkeyPatch, cache: int
) -> None:
    """Whatever is cached, and whatever was drawn before."""
    monkeypatch.setattr(training_set, "CACHE_BYTES", cache)
    augmentation = AugmentRecipe(crop=32, quarter_turns=True, rotate=20, scale=(0.8, 1.2))

    def fresh() -> TrainingSet:
        return TrainingSet(records, fit=InputRecipe(size=(64, 64)), augmentation=augmentation)

    keys = [(0, 3), (1, 4), (1, 9), (0, 3)]
    once = fresh()
    forwards = {key: once[key] for key in keys}
    for key in reversed(keys):
        for a, b, c in zip(forwards[key], fresh()[key], once[key], strict=True):
            assert torch.equal(a, b)
            assert torch.equal(a, c)
    assert not torch.equal(forwards[1, 4][0], forwards[1, 9][0])
    assert len(once._cache) == {10**9: 2, 0: 0, 20_000: 1}[cache]


def test_an_item_can_be_changed_without_changing_the_set(records: list[ImageRecord]) -> None:
    training = TrainingSet(records, fit=InputRecipe(size=(64, 64)), augmentation=STILL)
    before = [part.clone() for part in training[1, 0]]
    for part in training[1, 0]:
        part.fill_(7)
    assert all(torch.equal(a, b) for a, b in zip(before, training[1, 0], strict=True))


def test_the_cache_reads_each_image_once_and_no_more_than_fits(
    records: list[ImageRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: Counter[Path] = Counter()
    real = training_set.read_sample
    monkeypatch.setattr(training_set, "read_sample", lambda r: (reads.update([r.path]), real(r))[1])
    one_image = 64 * 64 * (3 + 1)
    monkeypatch.setattr(training_set, "CACHE_BYTES", one_image)
    training = TrainingSet(records, fit=InputRecipe(size=(64, 64)), augmentation=STILL)
    for _ in range(3):
        for index in range(2):
            training[index, 0]
    assert [reads[record.path] for record in records] == [1, 3]


def test_a_defect_image_is_weighted_once_and_always_alike(
    records: list[ImageRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finding the regions of a whole mask takes longer than cutting a crop out of it."""
    recipe = LossRecipe(small_regions=0.5)
    weighted: list[bool] = []
    real = training_set.emphasis

    def counted(mask: np.ndarray, *, recipe: LossRecipe) -> np.ndarray:
        weighted.append(bool(mask.any()))
        return real(mask, recipe=recipe)

    monkeypatch.setattr(training_set, "emphasis", counted)
    fit = InputRecipe(size=(64, 64))
    training = TrainingSet(records, fit=fit, augmentation=STILL, loss=recipe)
    drawn = [training[index, seed][2] for seed in range(4) for index in (0, 1)]
    assert weighted.count(True) == 1
    geometry = plan((40, 60), "letterbox", size=(64, 64))
    square = np.zeros((40, 60), bool)
    square[10:30, 20:44] = True
    expected = geometry.weight() * real(geometry.mask(square), recipe=recipe)
    assert expected.max() > 1
    for good, defective in zip(drawn[::2], drawn[1::2], strict=True):
        np.testing.assert_array_equal(good[0].numpy(), geometry.weight())
        np.testing.assert_array_equal(defective[0].numpy(), expected)


def test_native_images_are_cropped_from_their_own_pixels(records: list[ImageRecord]) -> None:
    augmentation = AugmentRecipe(crop=32, crop_on_defect=1, flip=False, brightness=0, contrast=0)
    training = TrainingSet(records, fit=InputRecipe(fit="native"), augmentation=augmentation)
    whole = normalise(plan((40, 60), "native").image(pixels(records[1])))
    for seed in range(6):
        image, mask, weight = training[1, seed]
        assert image.shape == (3, 32, 32)
        assert mask.any()
        windows = np.lib.stride_tricks.sliding_window_view(whole[0], (32, 32))
        places = np.argwhere((windows == image[0].numpy()).all((2, 3)))
        assert len(places) == 1
        top, left = places[0]
        assert weight.sum() == max(0, min(32, 40 - top)) * max(0, min(32, 60 - left))


def test_collate_stacks(records: list[ImageRecord]) -> None:
    training = TrainingSet(records, fit=InputRecipe(size=(64, 64)), augmentation=STILL)
    items = [training[0, 1], training[1, 2], training[1, 3]]
    batch = collate(items)
    assert batch.image.shape == (3, 3, 64, 64)
    assert batch.mask.shape == batch.weight.shape == (3, 1, 64, 64)
    assert torch.equal(batch.image[2], items[2][0])
    assert torch.equal(batch.mask[1], items[1][1])
    assert torch.equal(batch.weight[0], items[0][2])


def test_through_a_loader(records: list[ImageRecord]) -> None:
    sampler = BalancedBatches(
        [r.defective for r in records],
        batch_size=4,
        defect_share=0.25,
        steps_per_epoch=2,
        seed=0,
    )
    training = TrainingSet(
        records, fit=InputRecipe(size=(64, 64)), augmentation=AugmentRecipe(crop=32)
    )
    loader = torch.utils.data.DataLoader(training, batch_sampler=sampler, collate_fn=collate)
    for batch, draws in zip(loader, sampler, strict=True):
        assert batch.image.shape == (4, 3, 32, 32)
        assert torch.equal(batch.image[1], training[draws[1]][0])


def test_pasted_defects_come_from_the_same_category_and_in_their_share(
    records: list[ImageRecord],
) -> None:
    good, dent = records
    small = np.zeros((40, 60), np.uint8)
    small[20:25, 30:37] = 255
    assert dent.mask is not None
    Pillow.fromarray(small).save(dent.mask)
    other = dataclasses.replace(good, category="other")
    still = STILL.model_copy(update={"paste": 0.5})
    training = TrainingSet([good, dent, other], fit=InputRecipe(size=(64, 64)), augmentation=still)
    masks = [training[0, seed][1] for seed in range(40)]
    assert 8 <= sum(bool(mask.any()) for mask in masks) <= 32
    assert not any(training[2, seed][1].any() for seed in range(10))
    assert torch.equal(training[0, 3][0], training[0, 3][0])
    plain = TrainingSet([good, dent], fit=InputRecipe(size=(64, 64)), augmentation=STILL)
    for seed, mask in enumerate(masks):
        changed = (training[0, seed][0] != plain[0, seed][0]).any()
        assert bool(changed) == bool(mask.any())


def test_a_defect_at_the_border_is_pasted_without_its_mirror_image(tmp_path: Path) -> None:
    """The padding of a donor mirrors its defect, and has no mask; the padding gets none pasted."""
    made = []
    for label in ("good", "dent"):
        gray = np.full((50, 60), 100, np.uint8)
        mask = np.zeros((50, 60), np.uint8)
        if label == "dent":
            gray[44:, 30:40], mask[44:, 30:40] = 200, 255
        path = tmp_path / f"{label}.png"
        Pillow.fromarray(gray).save(path)
        Pillow.fromarray(mask).save(tmp_path / f"{label}_mask.png")
        where = tmp_path / f"{label}_mask.png" if mask.any() else None
        made.append(ImageRecord(path, "part", "train", label, where))
    always = STILL.model_copy(update={"paste": 1.0, "crop": 64})
    training = TrainingSet(made, fit=InputRecipe(fit="native"), augmentation=always)
    fitted = training._fitted(0)[0].image
    for seed in range(30):
        sample, geometry, _ = training._fitted(0)
        image, mask = training._with_pasted(sample, geometry, np.random.default_rng(seed))
        assert mask.any()
        assert not ((image[..., 0] > 160) & ~mask).any()
        np.testing.assert_array_equal(image[50:], fitted[50:])
        alone, _ = training._with_pasted(*training._fitted(1)[:2], np.random.default_rng(seed))
        np.testing.assert_array_equal(alone, training._fitted(1)[0].image)  # no other donor


def test_a_pasted_small_defect_counts_more(records: list[ImageRecord]) -> None:
    good, dent = records
    small = np.zeros((40, 60), np.uint8)
    small[20:25, 30:37] = 255
    assert dent.mask is not None
    Pillow.fromarray(small).save(dent.mask)
    training = TrainingSet(
        [good, dent], fit=InputRecipe(size=(64, 64)), loss=LossRecipe(small_regions=0.5),
        augmentation=STILL.model_copy(update={"paste": 1.0}),
    )  # fmt: skip
    pasted = 0
    for seed in range(10):
        _, mask, weight = training[0, seed]
        if mask.any():
            pasted += 1
            assert (weight[mask.bool()] > 3).all()
    assert pasted


# --- made defects ---------------------------------------------------------------------------

HALF = SynthesisRecipe(share=0.5, generators={"hole": 1, "stain": 1, "crack": 1})
ALWAYS = HALF.model_copy(update={"share": 1.0})


@pytest.fixture
def smooth(tmp_path: Path) -> list[ImageRecord]:
    """Three good images and one with a real defect, smooth, 90 × 120, of one category."""
    made = []
    for number, label in enumerate(("good", "good", "good", "dent")):
        gray = np.full((90, 120), 110 + 10 * number, np.uint8)
        gray += np.random.default_rng(number).integers(0, 4, gray.shape, dtype=np.uint8)
        mask = np.zeros(gray.shape, np.uint8)
        mask[40:48, 50:70] = 255
        path, where = tmp_path / f"{number}.png", tmp_path / f"{number}_mask.png"
        if label == "dent":
            gray[mask > 0] = 240
            Pillow.fromarray(mask).save(where)
        Pillow.fromarray(gray).save(path)
        made.append(ImageRecord(path, "part", "train", label, where if label == "dent" else None))
    return made


def made_set(records: list[ImageRecord], synthesis: SynthesisRecipe, **augment: Any) -> TrainingSet:
    return TrainingSet(
        records, fit=InputRecipe(fit="native") if "crop" in augment else InputRecipe(size=(128, 128)),
        augmentation=STILL.model_copy(update=augment), synthesis=synthesis,
    )  # fmt: skip


def test_a_share_of_the_good_images_gets_defects_inside_and_only_there(
    smooth: list[ImageRecord],
) -> None:
    training, plain = made_set(smooth, HALF), made_set(smooth, SynthesisRecipe())
    inside = training._fitted(0)[1].inside
    defective = 0
    for seed in range(80):
        image, mask, _ = training[0, seed]
        same, _, _ = plain[0, seed]
        changed = (image != same).any(dim=0)
        assert not (changed & (mask[0] == 0)).any()
        assert mask[0].sum() == mask[0][inside].sum()
        defective += bool(mask.any())
    assert 25 <= defective <= 55
    for seed in range(20):  # a real defect is left alone
        for a, b in zip(training[3, seed], plain[3, seed], strict=True):
            assert torch.equal(a, b)


def test_made_defects_are_decided_by_the_key_alone(
    smooth: list[ImageRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = SynthesisRecipe(share=1, generators={"perlin": 1, "poisson": 1, "paste": 1})
    first = made_set(smooth, recipe)
    drawn = {seed: first[1, seed] for seed in range(12)}
    monkeypatch.setattr(training_set, "CACHE_BYTES", 0)
    again = made_set(smooth, recipe)
    for seed in reversed(range(12)):
        for a, b in zip(drawn[seed], again[1, seed], strict=True):
            assert torch.equal(a, b)
    assert len({item[1].numpy().tobytes() for item in drawn.values()}) > 6


def test_made_defects_keep_to_the_parameters_of_the_recipe(smooth: list[ImageRecord]) -> None:
    only = {"share": 1, "generators": {"cut_paste": 1}, "textures": None}
    shares = {}
    for area in (0.02, 0.3):
        training = made_set(smooth, SynthesisRecipe(**only, cut_paste={"area": area}))
        shares[area] = max(float(training[0, seed][1].mean()) for seed in range(20))
    assert shares[0.02] < 0.03
    assert shares[0.3] > 0.06


def test_crops_look_at_made_defects(smooth: list[ImageRecord]) -> None:
    shares = {
        on: np.mean(
            [
                made_set(smooth, ALWAYS, crop=32, crop_on_defect=on)[0, seed][1].any()
                for seed in range(40)
            ]
        )
        for on in (0.0, 1.0)
    }
    assert shares[1.0] > 0.9
    assert shares[0.0] < 0.7


def test_small_made_defects_count_more(smooth: list[ImageRecord]) -> None:
    training = TrainingSet(
        smooth, fit=InputRecipe(size=(128, 128)), augmentation=STILL, synthesis=ALWAYS,
        loss=LossRecipe(small_regions=0.5),
    )  # fmt: skip
    weights = [(w[m.bool()].min(), m.sum()) for _, m, w in (training[0, s] for s in range(10))]
    assert any(weight > 2 for weight, area in weights if area < 200)


def test_real_defects_are_pasted_as_made_ones_of_their_category(smooth: list[ImageRecord]) -> None:
    paste = SynthesisRecipe(share=1, generators={"paste": 1})
    other = dataclasses.replace(smooth[0], category="other")
    training = made_set([*smooth, other], paste)
    assert np.mean([training[0, seed][1].any() for seed in range(20)]) > 0.8
    assert not any(training[4, seed][1].any() for seed in range(10))


def test_other_processes_make_the_same_defects(smooth: list[ImageRecord]) -> None:
    import pickle

    training = made_set(smooth, SynthesisRecipe(share=1))
    again = pickle.loads(pickle.dumps(training))
    for seed in range(6):
        for a, b in zip(training[2, seed], again[2, seed], strict=True):
            assert torch.equal(a, b)
