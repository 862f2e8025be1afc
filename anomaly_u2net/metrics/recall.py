"""Which defect regions are found, by their size: counts that add up over images, then numbers.

K size buckets by the area of a region in pixels at the map's resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from anomaly_u2net.errors import InputError, NotComputable
from anomaly_u2net.metrics.checks import check_pair, check_threshold
from anomaly_u2net.metrics.regions import label_regions

#: Areas in pixels where the next bucket begins: below 8², to 32², to 96², and from 96² on. The last
#: two are COCO's limits of small and large objects; 8² parts off what few pixels decide.
AREA_EDGES = (8**2, 32**2, 96**2)


@dataclass(frozen=True, slots=True)
class RegionCounts:
    """Regions of one image or, added up, of many, in K = len(edges) + 1 buckets.

    Bucket k holds regions of edges[k - 1] <= area < edges[k] pixels.
    regions: (K,), how many. found: (K,), how many have any pixel above the threshold.
    overlap: (K,), the sum over regions of the share of their pixels above the threshold.
    Start a sum over images with ``RegionCounts.none(edges)``.
    """

    edges: tuple[int, ...]
    regions: tuple[int, ...]
    found: tuple[int, ...]
    overlap: tuple[float, ...]

    @classmethod
    def none(cls, edges: tuple[int, ...] = AREA_EDGES) -> RegionCounts:
        """Counts of no image. Raises InputError for edges that do not rise from 2 on or above."""
        if not edges or edges[0] < 2 or any(np.diff(edges) <= 0):
            raise InputError(
                f"expected areas in pixels that rise, the first 2 or more, got edges {edges}"
            )
        empty = (0,) * (len(edges) + 1)
        return cls(tuple(edges), empty, empty, (0.0,) * len(empty))

    def __add__(self, other: RegionCounts) -> RegionCounts:
        if self.edges != other.edges:
            raise InputError(
                f"counts of unlike buckets do not add up: edges {self.edges} and {other.edges}"
            )
        return RegionCounts(
            self.edges,
            tuple(a + b for a, b in zip(self.regions, other.regions, strict=True)),
            tuple(a + b for a, b in zip(self.found, other.found, strict=True)),
            tuple(a + b for a, b in zip(self.overlap, other.overlap, strict=True)),
        )

    def bucket_name(self, bucket: int) -> str:
        """What bucket k holds, for a table.

        >>> [RegionCounts.none().bucket_name(k) for k in range(4)]
        ['< 64 px', '64-1023 px', '1024-9215 px', '>= 9216 px']
        """
        if bucket == 0:
            return f"< {self.edges[0]} px"
        if bucket == len(self.edges):
            return f">= {self.edges[-1]} px"
        return f"{self.edges[bucket - 1]}-{self.edges[bucket] - 1} px"


def region_counts(
    score_map: ArrayLike,
    mask: ArrayLike,
    *,
    threshold: float,
    edges: tuple[int, ...] = AREA_EDGES,
) -> RegionCounts:
    """Count one image's 8-connected defect regions, found where ``score > threshold``.

    score_map: float (H, W). mask: bool or integer (H, W), nonzero = defect.
    edges: areas in pixels, rising. Raises MapError as `segmentation_counts`, InputError for a NaN
    threshold or edges that do not rise.

    >>> counts = region_counts(np.array([[0.9, 0.1, 0.1, 0.2]]), np.array([[1, 1, 0, 1]]),
    ...                        threshold=0.5, edges=(2,))
    >>> counts.regions, counts.found, counts.overlap
    ((1, 1), (0, 1), (0.0, 0.5))
    """
    scores, defect = check_pair(score_map, mask)
    value = check_threshold(threshold)
    none = RegionCounts.none(edges)
    labels, number = label_regions(defect)
    if number == 0:
        return none
    areas = np.bincount(labels[defect], minlength=number + 1)[1:]
    hits = np.bincount(labels[defect & (scores > value)], minlength=number + 1)[1:]
    bucket = np.searchsorted(none.edges, areas, side="right")
    size = len(none.regions)
    return RegionCounts(
        none.edges,
        tuple(np.bincount(bucket, minlength=size).tolist()),
        tuple(np.bincount(bucket[hits > 0], minlength=size).tolist()),
        tuple(np.bincount(bucket, hits / areas, minlength=size).tolist()),
    )


def region_recall(counts: RegionCounts, *, bucket: int | None = None) -> float:
    """The share of regions that are found, of one bucket or of all.

    Raises NotComputable when there is no such region, InputError for a bucket there is not.

    >>> counts = RegionCounts((64,), regions=(4, 1), found=(1, 1), overlap=(0.5, 0.75))
    >>> region_recall(counts, bucket=0), region_recall(counts)
    (0.25, 0.4)
    """
    return _per_region(counts, counts.found, bucket)


def mean_region_overlap(counts: RegionCounts, *, bucket: int | None = None) -> float:
    """The mean share of a region that is found, of one bucket or of all: PRO at the threshold.

    Raises as `region_recall`.

    >>> counts = RegionCounts((64,), regions=(4, 1), found=(1, 1), overlap=(0.5, 0.75))
    >>> mean_region_overlap(counts, bucket=0), mean_region_overlap(counts)
    (0.125, 0.25)
    """
    return _per_region(counts, counts.overlap, bucket)


def _per_region(
    counts: RegionCounts, over: tuple[int, ...] | tuple[float, ...], bucket: int | None
) -> float:
    if bucket is not None and not 0 <= bucket < len(counts.regions):
        raise InputError(f"expected a bucket from 0 to {len(counts.regions) - 1}, got {bucket}")
    chosen = slice(None) if bucket is None else slice(bucket, bucket + 1)
    regions = sum(counts.regions[chosen])
    if regions == 0:
        where = "" if bucket is None else f" of {counts.bucket_name(bucket)}"
        raise NotComputable(f"there is no defect region{where} to find")
    return sum(over[chosen]) / regions
