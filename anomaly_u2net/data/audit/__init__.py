"""What is wrong with a data set, before it is believed: findings, worst first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby

from anomaly_u2net.data.audit.copies import (
    copies_across_categories,
    copy_findings,
    group_rows,
)
from anomaly_u2net.data.audit.drift import Shift, drift_findings, shift
from anomaly_u2net.data.audit.findings import (
    SEVERITIES,
    Audit,
    Finding,
    Item,
    Severity,
    shown,
    worst_first,
)
from anomaly_u2net.data.audit.masks import mask_findings
from anomaly_u2net.data.audit.seen import SeenImage, SeenMask, look, region_widths
from anomaly_u2net.data.audit.sizes import EDGES, count_findings, size_findings
from anomaly_u2net.data.audit.visibility import Standing, standing
from anomaly_u2net.data.geometry import Fit
from anomaly_u2net.types import ImageRecord

__all__ = [
    "EDGES",
    "SEVERITIES",
    "Audit",
    "Finding",
    "Item",
    "SeenImage",
    "SeenMask",
    "Severity",
    "Shift",
    "Standing",
    "audit",
    "group_rows",
    "region_widths",
    "shift",
    "shown",
    "standing",
]


def audit(
    records: Iterable[ImageRecord],
    *,
    fit: Fit = "letterbox",
    size: tuple[int, int] = (320, 320),
    on_image: Callable[[ImageRecord], None] | None = None,
) -> Audit:
    """Look at every image and mask once, and say what is wrong, doubtful or good to know.

    records: as `index_dataset` gives them. fit, size (h, w): the recipe's ``input``, for how large
    defects are where the network sees them. on_image: called after each image. 16 KiB an image are
    kept. What cannot be read is a finding, not an error.
    """
    seen, broken = look(records, on_image=on_image)
    findings = _unreadable(broken, whole=len(seen) + len(broken))
    joined = []
    ordered = sorted(seen, key=lambda one: (one.record.category, one.record.path))
    for category, group in groupby(ordered, key=lambda one: one.record.category):
        own = list(group)
        copies = copy_findings(category, own)
        findings += mask_findings(category, own)
        findings += copies.findings
        findings += drift_findings(category, own, joined=copies.joined)
        findings += size_findings(category, own, fit=fit, size=size)
        findings += count_findings(category, own)
        joined += [tuple(own[i].record.path for i in members) for members in copies.joined]
    findings += copies_across_categories(ordered)
    return Audit(len(seen) + len(broken), worst_first(findings), tuple(joined))


def _unreadable(broken: dict[ImageRecord, str], *, whole: int) -> list[Finding]:
    if not broken:
        return []
    return [
        Finding(
            "error", "image_unreadable", "",
            f"{len(broken)} of {whole} images cannot be read",
            "Copy them again from their source, or leave them out.",
            tuple(Item((record.path,), text) for record, text in broken.items()),
        )
    ]  # fmt: skip
