"""How much each pixel of a training image counts in the loss, from its mask."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.metrics import label_regions
from anomaly_u2net.recipe import LossRecipe
from anomaly_u2net.types import Mask

#: A defect region of this many pixels counts as the paper has it; smaller ones can count more …
REFERENCE_AREA = 1024
#: … up to so many times.
HIGHEST = 10.0


def emphasis(mask: Mask, *, recipe: LossRecipe) -> NDArray[np.float32]:
    """The weight of each pixel, float32 (h, w), for ``mask``, bool (h, w); 1 where nothing is asked.

    small_regions, p: a pixel of a region of A pixels counts (1024 / A)^p, between 1 and 10. With
    p = 1 every small region weighs the same, as it does in PRO; with 0 every pixel does.
    edge_band, d: pixels at most d from the edge of a mask count ``edge_weight``, on both sides,
    because people draw edges where they like. A region that would have nothing left keeps all of
    its own pixels.

    >>> mask = np.zeros((8, 8), bool)
    >>> mask[2:6, 2:6] = True
    >>> float(emphasis(mask, recipe=LossRecipe(small_regions=0.5))[3, 3])
    8.0
    """
    weight = np.ones(mask.shape, np.float32)
    if not mask.any() or not (recipe.small_regions or recipe.edge_band):
        return weight
    labels, regions = label_regions(mask)
    if recipe.small_regions:
        area = np.maximum(np.bincount(labels.ravel(), minlength=regions + 1), 1)
        factor = np.clip((REFERENCE_AREA / area) ** recipe.small_regions, 1.0, HIGHEST)
        factor[0] = 1.0
        weight *= factor.astype(np.float32)[labels]
    if recipe.edge_band:
        inside, outside = (_distance(part) for part in (mask, ~mask))
        thickness = np.zeros(regions + 1)
        np.maximum.at(thickness, labels, inside)
        near = (outside > 0) & (outside <= recipe.edge_band)
        near |= mask & (inside <= recipe.edge_band) & (thickness > recipe.edge_band)[labels]
        weight[near] *= recipe.edge_weight
    return weight


def _distance(part: Mask) -> NDArray[np.float32]:
    """From each pixel of ``part`` to the nearest one outside it, in pixels; 0 outside."""
    distance = cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distance, np.float32)
