"""What the metrics accept: one place that looks at maps, masks and scores, and says what is wrong.

Maps are floating arrays (H, W), finite, on any scale. Masks are bool or integer arrays (H, W);
any nonzero value is a defect pixel, so both 0/1 and 0/255 masks mean what they look like.
"""

from __future__ import annotations

import math
from collections.abc import Sized
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomaly_u2net.errors import InputError, MapError, NotComputable


def check_map(score_map: ArrayLike, *, name: str = "the map") -> NDArray[np.floating[Any]]:
    """Return ``score_map`` as a finite float array (H, W); float16 is widened, others keep dtype.

    Raises MapError, with ``name`` in its text, for another type or shape, NaN or infinity.
    """
    array = np.asarray(score_map)
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise MapError(
            f"{name}: expected float16, float32 or float64 scores, got {array.dtype}; "
            "convert with .astype(np.float32)"
        )
    _check_plane(array, name)
    bad = array.size - np.count_nonzero(np.isfinite(array))
    if bad:
        raise MapError(
            f"{name}: {bad} of {array.size} pixels are NaN or infinite; "
            "scores must be finite, look at what produced this map"
        )
    return array.astype(np.float32) if array.dtype.itemsize == 2 else array


def check_mask(mask: ArrayLike, *, name: str = "the mask") -> NDArray[np.bool_]:
    """Return ``mask`` as bool (H, W), true where it is nonzero.

    Raises MapError, with ``name`` in its text, for another type or shape.
    """
    array = np.asarray(mask)
    if array.dtype.kind not in "bui":
        raise MapError(
            f"{name}: expected a bool or integer mask (nonzero = defect), got {array.dtype}; "
            "convert with mask > 0"
        )
    _check_plane(array, name)
    return array if array.dtype.kind == "b" else array != 0


def check_pair(
    score_map: ArrayLike, mask: ArrayLike, *, index: int | None = None
) -> tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]:
    """Return a map and its mask as `check_map` and `check_mask` do, of one shape (H, W)."""
    where = "" if index is None else f" {index}"
    checked = check_map(score_map, name=f"map{where}")
    defect = check_mask(mask, name=f"mask{where}")
    if checked.shape != defect.shape:
        raise MapError(
            f"map{where} is {checked.shape} but mask{where} is {defect.shape}; a map and its mask "
            "must have the same (H, W): bring the map back to the original image size"
        )
    return checked, defect


def check_numbers(maps: Sized, masks: Sized) -> None:
    """Raise MapError when ``maps`` and ``masks`` differ in number, NotComputable for none."""
    if len(maps) != len(masks):
        raise MapError(
            f"got {len(maps)} maps and {len(masks)} masks; give one mask per map "
            "(all zero for a good image)"
        )
    if len(maps) == 0:
        raise NotComputable("there are no images to measure on")


def check_scores(
    scores: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]:
    """Return image scores float (N,) and labels bool (N,), true where defective.

    Raises InputError for other shapes or types, labels besides 0 and 1, NaN or infinity;
    NotComputable when N is 0.
    """
    values, defective = np.asarray(scores), np.asarray(labels)
    if values.ndim != 1 or values.shape != defective.shape:
        raise InputError(
            f"expected one score and one label per image, both (N,); "
            f"got scores {values.shape} and labels {defective.shape}"
        )
    if values.size == 0:
        raise NotComputable("there are no images to measure on")
    if values.dtype.kind not in "fiu" or values.dtype.itemsize > 8:
        raise InputError(f"expected real numbers as scores, got {values.dtype}")
    if defective.dtype.kind not in "bui" or not np.isin(defective, (0, 1)).all():
        raise InputError(
            f"expected labels that are bool or 0 (good) and 1 (defective), got {defective.dtype} "
            f"with values {np.unique(defective)[:5].tolist()}"
        )
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise InputError(
            f"{bad.size} of {values.size} scores are NaN or infinite, the first at image {bad[0]}; "
            "scores must be finite"
        )
    exact = values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)
    return exact, defective.astype(bool)


def check_threshold(threshold: float) -> float:
    """Return ``threshold`` as a float; raises InputError when it is NaN."""
    value = float(threshold)
    if math.isnan(value):
        raise InputError("the threshold is NaN; expected a number on the scale of the scores")
    return value


def _check_plane(array: NDArray[Any], name: str) -> None:
    if array.ndim != 2 or array.size == 0:
        raise MapError(
            f"{name}: expected a plane of shape (H, W) with at least one pixel, "
            f"got shape {array.shape}"
        )
