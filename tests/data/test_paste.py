from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.data.paste import RELIGHT, ZOOM, paste_defect
from anomaly_u2net.types import Image, Mask


def part(height: int, width: int, gray: int = 100) -> tuple[Image, Mask]:
    return np.full((height, width, 3), gray, np.uint8), np.zeros((height, width), bool)


def donor(height: int = 6, width: int = 14, gray: int = 100) -> tuple[Image, Mask]:
    """A part with a bright oblong defect in its middle."""
    image, mask = part(80, 80, gray)
    mask[40 : 40 + height, 30 : 30 + width] = True
    image[mask] = 2 * gray
    return image, mask


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), height=st.integers(2, 20), width=st.integers(2, 20))
def test_the_mask_lies_on_what_was_pasted(seed: int, height: int, width: int) -> None:
    image, mask = paste_defect(
        *part(120, 90), donor=donor(height, width), largest=48, rng=np.random.default_rng(seed)
    )
    low, high = ZOOM
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    sides = sorted([np.ptp(rows) + 1, np.ptp(columns) + 1])
    for side, before in zip(sides, sorted([height, width]), strict=True):
        assert low * before - 2 <= side <= high * before + 2
    assert mask.all() == 0
    assert image[mask].mean() > 150
    far = np.ones(mask.shape, bool)
    far[max(0, rows[0] - 6) : rows[-1] + 7, max(0, columns[0] - 6) : columns[-1] + 7] = False
    assert (image[far] == 100).all()


def test_the_patch_takes_the_brightness_of_its_new_place() -> None:
    image, mask = paste_defect(
        *part(100, 100, 60), donor=donor(gray=100), largest=48, rng=np.random.default_rng(0)
    )
    assert np.median(image[mask]) == pytest.approx(120, abs=2)  # twice its surroundings, as before


def test_it_lies_everywhere_in_all_turns_but_never_on_another_defect() -> None:
    image, mask = part(60, 60)
    mask[:, 30:] = True
    tall, middles = set(), []
    for seed in range(60):
        changed, pasted = paste_defect(
            image, mask, donor=donor(), largest=48, rng=np.random.default_rng(seed)
        )
        new = pasted & ~mask
        np.testing.assert_array_equal(changed[mask], image[mask])
        assert (pasted >= mask).all()
        if new.any():
            rows, columns = np.nonzero(new)
            tall.add(bool(np.ptp(rows) > np.ptp(columns)))
            middles.append(rows.mean())
    assert tall == {True, False}
    assert min(middles) < 20
    assert max(middles) > 40


@pytest.mark.parametrize(
    ("target", "giver", "largest"),
    [
        (part(100, 100), donor(width=31), 30),  # too long
        (part(16, 100), donor(height=20, width=20), 48),  # no room
        (part(100, 100), part(80, 80), 48),  # nothing to paste
        (part(100, 100, int(100 / RELIGHT) - 3), donor(), 48),  # too dark a place
        (part(200, 200), (part(80, 80)[0], np.ones((80, 80), bool)), 90),  # nothing sound around
    ],
)
def test_what_does_not_fit_leaves_the_image_as_it_is(
    target: tuple[Image, Mask], giver: tuple[Image, Mask], largest: int
) -> None:
    for seed in range(5):
        image, mask = paste_defect(
            *target, donor=giver, largest=largest, rng=np.random.default_rng(seed)
        )
        assert image is target[0]
        assert mask is target[1]


def test_only_one_of_the_regions_is_taken_and_nothing_handed_in_changes() -> None:
    image, mask = donor()
    mask[5:9, 60:64] = True
    target = part(100, 100)
    for array in (image, mask, *target):
        array.flags.writeable = False
    areas = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        pasted = paste_defect(*target, donor=(image, mask), largest=48, rng=rng)[1]
        areas.add("small" if pasted.sum() < 36 else "large")
    assert areas == {"small", "large"}


def test_fragments_of_one_defect_stay_together() -> None:
    image, mask = donor(height=6, width=6)
    image[40:46, 38:44], mask[40:46, 38:44] = 200, True  # two pixels beside the first
    for seed in range(20):
        rng = np.random.default_rng(seed)
        pasted, new = paste_defect(*part(120, 120), donor=(image, mask), largest=48, rng=rng)
        bright = pasted[..., 0] > 175
        assert 72 * 0.4 < new.sum() < 72 * 2.2
        assert not (bright & ~new).any()
        assert pasted[new].max() == 200  # the fragment beside it does not count as surroundings


def test_the_surroundings_fade_out() -> None:
    image, mask = donor()
    image[~mask] = np.where(np.indices((80, 80))[0] % 2, 80, 120)[~mask, None]  # stripes
    pasted, new = paste_defect(
        *part(120, 120), donor=(image, mask), largest=48, rng=np.random.default_rng(1)
    )
    distance = cv2.distanceTransform((~new).astype(np.uint8), cv2.DIST_L2, 5)
    off = np.abs(pasted[..., 0].astype(int) - 100)
    near, fading, far = (
        off[(distance > low) & (distance <= high)].mean() for low, high in ((1, 2), (3, 5), (8, 99))
    )
    assert near > 8
    assert 0.3 < fading < near / 2
    assert far == 0
