"""Where the part is in a picture, so that made defects land on it. Classical, no network."""

from __future__ import annotations

import cv2
import numpy as np

from anomaly_u2net.types import Image, Mask

#: The picture is looked at with its longer side this long, in pixels.
LOOK = 128
#: Gray levels from the colour of the border up to which a pixel may be background at most.
FARTHEST = 60
#: Gray levels that part and background must be apart, between their means.
APART = 30
#: Of the border, how much must look alike; a part that fills the picture also fills its border.
BORDER = 0.6
#: How many stretches of the border may be part: a part can be cut off by all four sides, but what
#: crosses the border more often is a pattern (the mortar of a wall).
STRETCHES = 4
#: Of the picture, how little and how much may be part. Beyond, the whole picture is.
LEAST, MOST = 0.05, 0.97
#: How clearly the distances fall into two groups: Otsu's share of the variance that lies between
#: them, 0..1. Texture without a background reaches 0.64 (Gaussian) to 0.75 (uniform).
SEPARABLE = 0.78


def foreground_mask(image: Image) -> Mask:
    """Which pixels are the part, bool (H, W); all of them where the part fills the picture.

    image: uint8 (H, W, 3). The colour of the border is taken for the background's; Otsu's threshold
    (1979) on the distance from it parts the two, and background is what a flood from the border
    reaches. All true when the border is not mostly of one colour, when the two groups are not
    clearly apart, when the "part" crosses the border like a pattern, and when hardly anything, or
    nearly everything, would be part.

    >>> image = np.full((64, 64, 3), 20, np.uint8)
    >>> image[16:48, 16:48] = 180
    >>> mask = foreground_mask(image)
    >>> bool(mask[18:46, 18:46].all()), bool(mask[:13].any())
    (True, False)
    >>> bool(foreground_mask(image[16:48, 16:48]).all())
    True
    """
    height, width = image.shape[:2]
    whole = np.ones((height, width), bool)
    zoom = min(1.0, LOOK / max(height, width))
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    small = cv2.GaussianBlur(cv2.resize(image, size, interpolation=cv2.INTER_AREA), (5, 5), 0)
    rim = np.zeros(small.shape[:2], bool)
    rim[:2] = rim[-2:] = rim[:, :2] = rim[:, -2:] = True
    colour = np.median(small[rim], axis=0).astype(np.uint8)
    red, green, blue = cv2.split(cv2.absdiff(small, np.full_like(small, colour)))
    distance = cv2.max(cv2.max(red, green), blue)
    threshold, _ = cv2.threshold(distance, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    near = distance <= min(threshold, FARTHEST)
    if near.all() or near[rim].mean() < BORDER:
        return whole
    inner, outer = distance[near].astype(float), distance[~near].astype(float)
    share = near.mean()
    between = share * (1 - share) * (outer.mean() - inner.mean()) ** 2
    if outer.mean() - inner.mean() < APART or between < SEPARABLE * distance.var():
        return whole
    part = _not_reached(near)
    along = np.concatenate([part[0], part[1:, -1], part[-1, -2::-1], part[-2:0:-1, 0]])
    if (along & ~np.roll(along, 1)).sum() > STRETCHES or not LEAST <= part.mean() <= MOST:
        return whole
    return np.asarray(
        cv2.resize(part.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) > 0.5
    )


def _not_reached(background: Mask) -> Mask:
    """What a flood over ``background`` from the border does not reach, small crumbs left out."""
    _, labels = cv2.connectedComponents(background.astype(np.uint8), connectivity=4)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    part = ~(np.isin(labels, border[border > 0]) & background)
    crumbs = cv2.morphologyEx(part.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return np.asarray(crumbs > 0)
