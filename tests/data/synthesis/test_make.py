from __future__ import annotations

import numpy as np
import pytest

from anomaly_u2net.data.synthesis import GENERATORS, Scene, Sources, make, make_defect
from anomaly_u2net.data.synthesis.textures import noise
from anomaly_u2net.errors import InputError
from anomaly_u2net.recipe import DEFAULT_WEIGHTS
from anomaly_u2net.types import Image, Mask

FLAT = np.full((64, 64, 3), 120, np.uint8)
SOURCES = Sources(lambda rng: FLAT, noise)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_same_state_gives_the_same_pixels_another_gives_others() -> None:
    made = [make_defect(FLAT, DEFAULT_WEIGHTS, sources=SOURCES, rng=rng(s)) for s in (3, 3, 4)]
    for first, same in zip(made[0], made[1], strict=True):
        np.testing.assert_array_equal(first, same)
    assert (made[0][0] != made[2][0]).any()


def test_weights_are_shares_and_need_not_sum_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def fake(name: str):
        def generator(scene: Scene) -> tuple[Image, Mask]:
            drawn.append(name)
            return scene.image, np.ones(scene.part.shape, bool)

        return generator

    for name in ("hole", "scar"):
        monkeypatch.setitem(GENERATORS, name, fake(name))
    for seed in range(400):
        make_defect(FLAT, {"hole": 3, "scar": 9}, sources=SOURCES, rng=rng(seed))
    assert len(drawn) == 400
    assert 0.18 < drawn.count("hole") / 400 < 0.32


def test_another_is_drawn_until_one_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def nothing(scene: Scene) -> tuple[Image, Mask]:
        calls.append(1)
        return scene.image, np.zeros(scene.part.shape, bool)

    monkeypatch.setitem(GENERATORS, "scar", nothing)
    made = [
        make_defect(FLAT, {"scar": 1, "hole": 1}, sources=SOURCES, rng=rng(s))[1].any()
        for s in range(60)
    ]
    assert np.mean(made) > 0.9  # half to the 5th: 3 % stay good
    calls.clear()
    image, mask = make_defect(FLAT, {"scar": 1}, sources=SOURCES, rng=rng())
    assert len(calls) == make.TRIES
    assert image is FLAT
    assert not mask.any()
    assert mask.shape == (64, 64)


def test_defects_lie_on_the_part_found_or_given() -> None:
    image = np.full((96, 96, 3), 20, np.uint8)
    image[30:70, 30:70] = 170
    made = 0
    for seed in range(40):
        mask = make_defect(image, DEFAULT_WEIGHTS, sources=SOURCES, rng=rng(seed))[1]
        made += mask.any()
        mask[27:73, 27:73] = False
        assert not mask.any()
    assert made > 30
    part = np.zeros((96, 96), bool)
    part[:20] = True
    found = [
        make_defect(image, DEFAULT_WEIGHTS, sources=SOURCES, rng=rng(seed), part=part)[1]
        for seed in range(20)
    ]
    assert any(mask.any() for mask in found)
    assert not any(mask[20:].any() for mask in found)


def test_no_part_at_all_leaves_the_image() -> None:
    none = np.zeros((64, 64), bool)
    image, mask = make_defect(FLAT, {"hole": 1}, sources=SOURCES, rng=rng(), part=none)
    assert image is FLAT
    assert not mask.any()


def test_unknown_names_and_no_weight_are_refused() -> None:
    with pytest.raises(InputError, match=r"unknown generator 'holes' \(did you mean 'hole'\?\)"):
        make_defect(FLAT, {"holes": 1}, sources=SOURCES, rng=rng())
    for weights in ({}, {"hole": 0.0}):
        with pytest.raises(InputError, match="expected generators with positive weights, got"):
            make_defect(FLAT, weights, sources=SOURCES, rng=rng())
