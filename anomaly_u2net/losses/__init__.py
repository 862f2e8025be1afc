"""Deep supervision over side outputs, and the pixel losses it can be built on.

A pixel loss is a plain function ``(logits, target, weight) -> scalar``: (B, 1, h, w) each,
``logits`` of any precision (halves are computed in float32), ``target`` in 0..1, ``weight`` ≥ 0
(0: the pixel is ignored). A new one is an entry in ``PIXEL_LOSSES`` here and a name in
`anomaly_u2net.recipe`. The value is a float32 scalar, 0 when all weights are 0.

The losses on areas (``AREA_LOSSES``) compare whole sets of pixels: those of the batch, or with
``reduce="image"`` those of each image, averaged over the images. In a batch one large defect hides
the small ones; per image each defect image counts the same.

On the probability, and so without a gradient where a logit is so wrong that its sigmoid is 0 or 1
(beyond ±17 in float32): dice, iou, tversky, focal_tversky and ssim. A sum with bce has one. On a good
image ssim has next to none long before, and a recipe refuses it alone.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from anomaly_u2net.errors import InputError
from anomaly_u2net.losses.area import dice, focal_tversky, iou, lovasz, tversky
from anomaly_u2net.losses.pixelwise import balanced_bce, bce, focal
from anomaly_u2net.losses.reduction import AreaLoss, PixelLoss, Reduce
from anomaly_u2net.losses.structure import ssim
from anomaly_u2net.losses.supervision import SideTarget, deep_supervision
from anomaly_u2net.recipe import unknown_loss

__all__ = [
    "AREA_LOSSES",
    "PIXEL_LOSSES",
    "PixelLoss",
    "Reduce",
    "SideTarget",
    "balanced_bce",
    "bce",
    "deep_supervision",
    "dice",
    "focal",
    "focal_tversky",
    "iou",
    "lovasz",
    "pixel_loss",
    "ssim",
    "tversky",
]

#: Those that take ``reduce``.
AREA_LOSSES: dict[str, AreaLoss] = {
    "dice": dice,
    "iou": iou,
    "tversky": tversky,
    "focal_tversky": focal_tversky,
    "lovasz": lovasz,
}
#: What ``loss.pixel`` of a recipe may name.
PIXEL_LOSSES: dict[str, PixelLoss] = {
    "bce": bce,
    "balanced_bce": balanced_bce,
    "focal": focal,
    "ssim": ssim,
    **AREA_LOSSES,
}


def pixel_loss(names: str, *, reduce: Reduce = "batch") -> PixelLoss:
    """The sum of the losses that ``names`` joins by "+".

    ``pixel_loss("bce+ssim+iou", reduce="image")`` is the hybrid loss of BASNet (Qin et al., CVPR
    2019, section 3.4). ``reduce`` is for the losses on areas. Raises `InputError` for an unknown
    name.

    >>> import torch
    >>> one = torch.ones(1, 1, 2, 2)
    >>> round(pixel_loss("bce+dice")(0 * one, one, one).item(), 4)  # ln 2 + 2/7
    0.9789
    """
    parts: list[PixelLoss] = []
    for name in names.split("+"):
        if name not in PIXEL_LOSSES:
            raise InputError(unknown_loss(name))
        area = AREA_LOSSES.get(name)
        parts.append(PIXEL_LOSSES[name] if area is None else partial(area, reduce=reduce))

    def total(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        first, *rest = (part(logits, target, weight) for part in parts)
        return sum(rest, start=first)

    return total
