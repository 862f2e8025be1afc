"""Structural similarity of the probability map and the mask."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from anomaly_u2net.losses.reduction import full, weighted_mean

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


def ssim(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """1 − SSIM of probability and mask, averaged over the pixels; in 0..2.

    SSIM = (2·μp·μt + C1)(2·σpt + C2) / ((μp² + μt² + C1)(σp² + σt² + C2)), the means, variances and
    covariance under an 11×11 Gaussian of σ = 1.5 pixels, C1 = 0.01², C2 = 0.03². Source: Wang et
    al., IEEE TIP 13(4), 2004, eq. 13; as a loss on masks: BASNet (Qin et al., CVPR 2019). Pixels of
    weight 0 and those outside the map are left out of each window, which is rescaled to sum 1;
    BASNet has zeros there.

    Not for use alone: where probability and mask are both flat, as on a good image, it hardly has a
    gradient (predicted 0.98 all over: less than 1e-5 of that of `bce`).

    A map without structure, p = 1/2 everywhere on a good image: 1 − C1 / (1/4 + C1).

    >>> zero = torch.zeros(1, 1, 16, 16)
    >>> round(ssim(zero, zero, torch.ones_like(zero)).item(), 4)
    0.9996
    """
    p, t = torch.sigmoid(full(logits)), target
    inside = (weight > 0).to(p.dtype)
    with torch.autocast(p.device.type, enabled=False):
        share = _blur(inside).clamp_min(1e-12)
        mean_t, tt = (_blur(part * inside) / share for part in (t, t * t))
        mean_p, pp, pt = (_blur(part * inside) / share for part in (p, p * p, p * t))
    means = mean_p * mean_t
    squares = mean_p**2 + mean_t**2
    likeness = (2 * means + C1) * (2 * (pt - means) + C2)
    return weighted_mean(1 - likeness / ((squares + C1) * (pp + tt - squares + C2)), weight)


def _blur(maps: Tensor) -> Tensor:
    """(B, 1, h, w) under the Gaussian window, zeros outside.

    The images are the channels of a depthwise convolution: one map per image is slow on a CPU.
    """
    images = len(maps)
    place = torch.arange(WINDOW, dtype=maps.dtype, device=maps.device) - WINDOW // 2
    bell = torch.softmax(-(place**2) / (2 * SIGMA**2), dim=0).repeat(images, 1, 1, 1)
    down = F.conv2d(maps.transpose(0, 1), bell.mT, padding=(WINDOW // 2, 0), groups=images)
    return F.conv2d(down, bell, padding=(0, WINDOW // 2), groups=images).transpose(0, 1)
