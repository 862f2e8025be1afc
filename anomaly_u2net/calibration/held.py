"""What a rule looks at: the scores of held-out images, good and defective, with their groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.calibration.bounds import rate_upper, rate_upper_anywhere
from anomaly_u2net.calibration.checks import Floats, group_extremes
from anomaly_u2net.calibration.miss import Peaks
from anomaly_u2net.calibration.reject import Level
from anomaly_u2net.errors import CalibrationError

Unit: TypeAlias = Literal["image", "group"]
Names = list[str | None] | None


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """The good images' scores, the defective images' peaks, and the groups of both.

    On the level "image" the peaks are image scores (m,); on "pixel" the good scores are the highest
    pixel of each image, and the peaks those of each defect region.
    """

    level: Level
    good: Floats
    peaks: Peaks
    good_groups: Names
    defect_groups: Names

    @property
    def good_unit(self) -> Unit:
        """What counts once among the good images, and for false rejects."""
        return "image" if self.good_groups is None else "group"

    @property
    def defect_unit(self) -> Unit:
        """What counts once among the defective images, and for misses."""
        return "image" if self.defect_groups is None else "group"

    @property
    def bound_unit(self) -> Unit | None:
        """What `upper` counts; None without good images."""
        return self.good_unit if self.good.size else None

    @property
    def shares_parts(self) -> bool:
        """Whether a part is among the good and the defective images, which then depend on it."""
        return bool(set(self.good_groups or ()) & set(self.defect_groups or ()) - {None})

    def rejected(self, value: float) -> tuple[int, int]:
        """How many good units have any image above ``value``, and of how many units."""
        units = group_extremes(self.good, self.good_groups)
        return int(np.count_nonzero(units > value)), int(units.size)

    def upper(self, value: float, *, looked: bool) -> float | None:
        """The 95 % upper bound of the false-reject rate; ``looked``: the rule saw the good scores.

        None without good images.
        """
        errors, n = self.rejected(value)
        if n == 0:
            return None
        return (rate_upper_anywhere if looked else rate_upper)(errors, n)

    def need_good(self) -> None:
        """Raise CalibrationError without good images."""
        if self.good.size == 0:
            raise CalibrationError(
                f"none of the {len(self.peaks)} held-out images is good (has an empty mask, or the "
                "label good); a false-reject rate is measured on good images: hold some out"
            )

    def need_defects(self, rule: str) -> None:
        """Raise CalibrationError without defective images."""
        if len(self.peaks) == 0:
            raise CalibrationError(
                f"the rule {rule} needs defects, but all {self.good.size} held-out images are "
                "good; hold out defective images with masks, or use the rule false_reject"
            )


def known_groups(groups: Any, chosen: NDArray[np.bool_]) -> Names:
    """The groups of the chosen images; None when none of them has one."""
    if groups is None:
        return None
    names = [
        None if name is None or name == "" else str(name)
        for name, kept in zip(groups, chosen, strict=True)
        if kept
    ]
    return names if any(names) else None
