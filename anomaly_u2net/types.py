"""The nouns of the package: what an image is called in each room it passes through.

``path → ImageRecord → Sample → Batch → SideLogits → ScoreMap → Verdict → ScoreRow``

Nothing here imports torch at run time; tensors appear in annotations only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Split: TypeAlias = Literal["train", "validation", "calibration", "test"]
#: How the pixels of a mask file are told: white on black, or label numbers with background 0.
MaskValues: TypeAlias = Literal["white", "labels"]
Decision: TypeAlias = Literal["OK", "NG", "REVIEW", "ERROR"]

#: uint8 (H, W, 3), RGB.
Image: TypeAlias = NDArray[np.uint8]
#: bool (H, W), true where the part is defective.
Mask: TypeAlias = NDArray[np.bool_]
#: float32 (H, W) in 0..1 at the original image size; one absolute scale for all images.
ScoreMap: TypeAlias = NDArray[np.float32]

GOOD = "good"

#: U²-Net halves five times: a canvas that is a multiple of this keeps every level whole.
STRIDE = 32


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of a data set: where it lies and what is known of it.

    ``label`` is ``"good"`` or the defect type, several with ``+`` between them. ``mask`` is the mask
    file, or a folder of several, which count together; ``None`` for good images. ``mask_values``
    says how to read it.
    ``group`` joins images that must not be parted by a split (several exposures of one part).
    """

    path: Path
    category: str
    split: Split
    label: str
    mask: Path | None = None
    group: str | None = None
    mask_values: MaskValues = "white"

    @property
    def defective(self) -> bool:
        return self.label != GOOD


def types_of(label: str) -> set[str]:
    """The defect types that a label names.

    >>> sorted(types_of("bent+melt"))
    ['bent', 'melt']
    """
    return set(label.split("+"))


@dataclass(frozen=True, slots=True)
class Sample:
    """An image as read: uint8 (H, W, 3) RGB, its mask bool (H, W), and its record.

    The mask of a good image is all false.
    """

    image: Image
    mask: Mask
    record: ImageRecord


@dataclass(frozen=True, slots=True)
class Batch:
    """What the network takes.

    image: float32 (B, 3, h, w), normalised. mask: float32 (B, 1, h, w) in {0, 1}.
    weight: float32 (B, 1, h, w), 0 where a pixel must not count (padding).
    """

    image: Tensor
    mask: Tensor
    weight: Tensor


class SideLogits(NamedTuple):
    """What the network returns: logits, never sigmoid.

    fused: float32 (B, C, h, w). sides: one tensor (B, C, h, w) per stage, finest first; none where
    the network has a single output. native: the sides before they were resized to (h, w).
    """

    fused: Tensor
    sides: tuple[Tensor, ...]
    native: tuple[Tensor, ...] = ()


@dataclass(frozen=True, slots=True)
class Region:
    """One 8-connected defect region above the pixel threshold, in original pixels.

    box is (x, y, width, height); centroid is (x, y); peak is the region's highest score.
    """

    area: int
    box: tuple[int, int, int, int]
    centroid: tuple[float, float]
    peak: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided for one image, and by which thresholds.

    Scores are in 0..1. Thresholds are on the same scale and mostly in 0..1 too, but some rules give
    one outside (mean + 3σ can exceed 1, where nothing is NG; a best F1 can lie just below 0).
    review_threshold: above it and not above image_threshold is REVIEW; None without one.
    """

    decision: Decision
    image_score: float
    image_threshold: float
    pixel_threshold: float
    regions: tuple[Region, ...] = field(default=())
    review_threshold: float | None = None

    @property
    def area(self) -> int:
        """Defect pixels in all regions."""
        return sum(region.area for region in self.regions)
