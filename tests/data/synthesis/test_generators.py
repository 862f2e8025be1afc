from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.data.synthesis import GENERATORS, Scene, Sources
from anomaly_u2net.data.synthesis import generators as module
from anomaly_u2net.data.synthesis.textures import noise
from anomaly_u2net.recipe import DEFAULT_WEIGHTS, GENERATOR_NAMES, GeneratorParameters
from anomaly_u2net.types import Image, Mask


def part(height: int = 96, width: int = 128, *, seed: int = 0, gray: bool = False) -> Image:
    """A smooth part with a slope of light, faint grain and two dark bars."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    level = 110 + 60 * x / width + 20 * y / height - 50 * (x % 48 < 6)
    level = level[..., None] * ([1, 1, 1] if gray else [1.1, 1, 0.8])
    grain = rng.normal(0, 2, (height, width, 1))
    return (level + grain).clip(0, 255).astype(np.uint8)


def real(rng: np.random.Generator) -> tuple[Image, Mask]:
    image, mask = part(seed=3), np.zeros((96, 128), bool)
    mask[40:47, 60:80] = True
    image[mask] = 20
    return image, mask


def scene(
    image: Image, seed: int, where: Mask | None = None, parameters: Any = None, **changes: Any
) -> Scene:
    def good(rng: np.random.Generator) -> Image:
        return part(seed=int(rng.integers(9)))

    sources = {"good": good, "texture": noise, "real": real, **changes}
    inside = np.ones(image.shape[:2], bool) if where is None else where
    return Scene(
        image, inside, Sources(**sources), np.random.default_rng(seed),
        GeneratorParameters.model_validate(parameters or {}),
    )  # fmt: skip


def test_the_recipe_knows_the_generators_and_no_others() -> None:
    assert tuple(GENERATORS) == GENERATOR_NAMES
    assert set(GENERATORS) - set(DEFAULT_WEIGHTS) == {"paste"}
    assert tuple(GeneratorParameters.model_fields) == tuple(DEFAULT_WEIGHTS)


@pytest.mark.parametrize("name", GENERATORS)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), gray=st.booleans())
def test_what_every_generator_keeps_to(name: str, seed: int, gray: bool) -> None:
    image = part(gray=gray)
    where = np.zeros(image.shape[:2], bool)
    where[20:80, 30:110] = True
    image.flags.writeable = where.flags.writeable = False
    made, mask = GENERATORS[name](scene(image, seed, where))
    assert made.shape == image.shape
    assert made.dtype == np.uint8
    assert mask.shape == where.shape
    assert mask.dtype == bool
    assert not (mask & ~where).any()  # on the part
    changed = (made != image).any(axis=2)
    if name != "paste":  # whose surroundings fade out
        assert not (changed & ~mask).any()  # nothing is changed that is not marked
    assert changed[mask].mean() > 0.85 if mask.any() else not changed.any()
    if gray:
        assert (made == made[..., :1]).all()  # no colour gives it away
    again, same = GENERATORS[name](scene(image, seed, where))
    np.testing.assert_array_equal(made, again)
    np.testing.assert_array_equal(mask, same)


@pytest.mark.parametrize("name", GENERATORS)
def test_defects_are_common_differ_and_can_be_seen(name: str) -> None:
    image = part()
    found = [GENERATORS[name](scene(image, seed)) for seed in range(60)]
    made = [(a, m) for a, m in found if m.any()]
    assert len(made) >= {"poisson": 8, "scar": 30}.get(name, 42)
    assert len({m.tobytes() for _, m in made}) == len(made)
    steps = [np.abs(a.astype(int) - image).max(axis=2)[m].mean() for a, m in made]
    assert min(steps) >= 8
    middles = np.array([np.argwhere(m).mean(axis=0) for _, m in made])
    assert (np.ptp(middles, axis=0) > [30, 40]).all()


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (9, 9), (33, 20), (300, 24)])
def test_small_and_narrow_images_do_not_break(name: str, shape: tuple[int, int]) -> None:
    image = part(*shape)
    for seed in range(8):
        made, mask = GENERATORS[name](scene(image, seed))
        assert made.shape == image.shape
        assert mask.shape == shape


def test_the_filling_keeps_its_values() -> None:
    """An opaque gray texture of 40 is 40 in the image, whatever the image's own range."""
    opaque = {"perlin": {"opacity": 1}}

    def forty(shape: tuple[int, int], rng: np.random.Generator) -> Image:
        return np.full((*shape, 3), 40, np.uint8)

    marked = 0
    for level in (200, 90):
        image = np.full((64, 64, 3), level, np.uint8)
        for seed in range(6):
            made, mask = module.perlin(scene(image, seed, None, opaque, texture=forty))
            assert (made[mask] == 40).all()
            marked += mask.sum()
    assert marked


def test_half_an_opacity_is_half_way() -> None:
    half = {"perlin": {"opacity": 0.5}}

    def white(shape: tuple[int, int], rng: np.random.Generator) -> Image:
        return np.full((*shape, 3), 250, np.uint8)

    image = np.full((64, 64, 3), 100, np.uint8)
    levels = {
        int(level)
        for seed in range(6)
        for level in np.unique(module.perlin(scene(image, seed, None, half, texture=white))[0])
    }
    assert levels == {100, 175}


@pytest.mark.parametrize("along", [8, 4])
def test_a_shuffled_image_holds_its_own_tiles(along: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the same light, opaque and everywhere, shuffling permutes the tiles."""
    monkeypatch.setattr(module, "recolour", lambda image, rng: image)
    monkeypatch.setattr(module, "perlin_mask", lambda shape, rng, recipe: np.ones(shape, bool))
    monkeypatch.setattr(module, "settle", lambda image, changed, region: (changed, region))
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    given = {"structure": {"opacity": 1, **({} if along == 8 else {"tiles": along})}}
    made, _ = module.structure(scene(image, 0, None, given))
    down, right = 64 // along, 96 // along
    tiles = [
        sorted(
            field[y : y + down, x : x + right].tobytes()
            for y in range(0, 64, down)
            for x in range(0, 96, right)
        )
        for field in (image, made)
    ]
    assert tiles[0] == tiles[1]
    assert (made != image).any()


def test_moved_patches_have_their_sizes_and_stay_in_their_light() -> None:
    """On a slope of light a patch keeps its own gray: at a new place, it is another."""
    image = np.repeat(np.tile(np.linspace(20, 235, 256), (256, 1))[..., None], 3, axis=2)
    image = image.astype(np.uint8)
    areas, lengths = [], []
    for seed in range(60):
        mask = module.cut_paste(scene(image, seed))[1]
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        if mask.any():
            inner = rows[0] > 0 and rows[-1] < 255 and columns[0] > 0 and columns[-1] < 255
            areas.append(mask.mean())
            assert mask.mean() <= 0.155
            if inner:
                assert mask.sum() >= 0.6 * (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        mask = module.scar(scene(image, seed))[1]
        if mask.any():
            spots = np.argwhere(mask)
            lengths.append(np.hypot(*np.ptp(spots, axis=0)))
    assert np.median(areas) > 0.02
    assert max(lengths) < 42  # 25 by 16 pixels, turned by 45°
    assert np.median(lengths) > 8


def test_a_blended_piece_takes_the_light_of_its_place() -> None:
    """Poisson: the mean level stays near the surroundings', however bright the donor is."""

    def bright(rng: np.random.Generator) -> Image:
        return (part(seed=5, gray=True).astype(int) + 60).clip(0, 255).astype(np.uint8)

    image = part(gray=True)
    for seed in range(40):
        made, mask = module.poisson(scene(image, seed, good=bright))
        if mask.any():
            edge = mask & ~np.roll(mask, 1, 0)
            assert np.abs(made[edge].astype(int) - image[edge]).mean() < 45


def test_a_real_defect_keeps_its_mask_and_needs_a_donor() -> None:
    image = part()
    sizes = [module.paste(scene(image, seed))[1].sum() for seed in range(30)]
    assert 0.4 * 140 < np.median([size for size in sizes if size]) < 2.2 * 140
    made, mask = module.paste(scene(image, 0, real=None))
    assert made is image
    assert not mask.any()


def test_a_real_defect_that_looks_like_the_part_is_not_marked() -> None:
    def invisible(rng: np.random.Generator) -> tuple[Image, Mask]:
        return np.full((96, 128, 3), 120, np.uint8), real(rng)[1]

    image = np.full((96, 128, 3), 120, np.uint8)
    for seed in range(10):
        made, mask = module.paste(scene(image, seed, real=invisible))
        assert made is image
        assert not mask.any()


def test_a_small_part_is_hit_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    image, where = part(), np.zeros((96, 128), bool)
    where[60:80, 90:120] = True
    for name in GENERATORS:
        masks = [GENERATORS[name](scene(image, seed, where))[1] for seed in range(40)]
        assert any(mask.any() for mask in masks), name
        assert not any((mask & ~where).any() for mask in masks), name


def spans(name: str, parameters: dict[str, Any]) -> tuple[list[int], list[int], list[float]]:
    """Heights and widths in pixels, and shares, of what is marked on an image of 128 × 256."""
    image = np.random.default_rng(0).integers(0, 256, (128, 256, 3), dtype=np.uint8)
    masks = [
        GENERATORS[name](scene(image, seed, None, {name: parameters}))[1] for seed in range(40)
    ]
    boxes = [np.argwhere(mask) for mask in masks if mask.any()]
    rows, columns = ([int(np.ptp(box[:, axis])) + 1 for box in boxes] for axis in (0, 1))
    return rows, columns, [float(mask.mean()) for mask in masks if mask.any()]


def test_what_is_set_of_a_generator_is_what_it_makes() -> None:
    """On noise, where every moved pixel shows."""
    rows, columns, shares = spans("cut_paste", {"area": 0.1, "aspect": 2})
    assert max(shares) <= 0.1 * 1.02  # less where it leaves the image
    assert max(shares) > 0.08
    assert {max(rows), max(columns)} == {round((0.1 * 128 * 256 * 2) ** 0.5)}  # upright, lying
    rows, columns, _ = spans("scar", {"width": 8, "length": 60, "turn": 0})
    assert (max(rows), max(columns)) == (4, 30)  # half as many pixels: the shorter side is 128
    rows, columns, _ = spans("scar", {"width": 8, "length": 60, "turn": 180})
    assert max(rows) > 20
    rows, columns, _ = spans("poisson", {"side": 0.25, "zoom": 1})
    assert (max(rows) <= 32, max(columns) <= 64) == (True, True)
    assert (max(rows) > 20, max(columns) > 40) == (True, True)


@pytest.mark.parametrize("name", ["scratch", "stain", "hole", "crack"])
def test_drawings_keep_to_their_window_and_opacity(name: str) -> None:
    image = np.full((128, 128, 3), 128, np.uint8)

    def highest(**parameters: float) -> tuple[int, int]:
        """The largest change in gray levels, and the longest side in pixels."""
        given = {name: parameters}
        made = [GENERATORS[name](scene(image, seed, None, given)) for seed in range(30)]
        step = max(np.abs(one.astype(int) - 128).max() for one, _ in made)
        return step, max(
            np.ptp(np.argwhere(mask), axis=0).max() + 1 for _, mask in made if mask.any()
        )

    faint, small = highest(opacity=0.5, window=0.3)
    assert small <= 38
    assert faint <= 64
    clear, same = highest(opacity=1, window=0.3)
    assert same <= 38
    assert faint == pytest.approx(0.5 * clear, abs=1)
    assert highest(opacity=1, window=1)[1] > 1.5 * same


@pytest.mark.parametrize(
    "parameters",
    [
        {"perlin": {"scale": 8, "threshold": 0}, "structure": {"tiles": 64, "scale": [0, 8]}},
        {"cut_paste": {"area": 1, "aspect": 100}, "poisson": {"side": 1, "zoom": 0.1}},
        {"scar": {"width": 256, "length": 256, "turn": 180}, "poisson": {"side": 1, "zoom": 10}},
        {"hole": {"window": 1}, "crack": {"window": 1}, "stain": {"window": 0.01}},
    ],
)
def test_the_widest_parameters_do_not_break(parameters: dict[str, Any]) -> None:
    for name in parameters:
        for shape in ((1, 1), (3, 200), (33, 20), (96, 128)):
            image = part(*shape)
            for seed in range(6):
                made, mask = GENERATORS[name](scene(image, seed, None, parameters))
                assert made.shape == image.shape
                assert mask.shape == shape
