"""Findings on how large defects are where the network sees them, and on how many there are."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.data.audit.findings import Finding, Item, share
from anomaly_u2net.data.audit.seen import SeenImage
from anomaly_u2net.data.geometry import MAX_NATIVE_PIXELS, Fit, plan
from anomaly_u2net.errors import ImageError
from anomaly_u2net.types import GOOD

#: A defect narrower than this many pixels of the network's input is hard to find.
THIN = 3.0
#: More of them than this are worth a larger input.
MANY = 0.1
#: Where the next bucket of widths begins, in pixels of the network's input.
EDGES = (1.0, THIN, 6.0, 12.0, 24.0, 48.0)
#: Sides of a larger input to propose.
_SIDES = (256, 320, 384, 512, 640, 768, 1024)
#: Fewer masks of a type than this cannot be split into training, validation and test.
FEW = 5


def size_findings(
    category: str, seen: Sequence[SeenImage], *, fit: Fit, size: tuple[int, int]
) -> list[Finding]:
    """The widths of the defect regions of a category at the network's input, by type.

    ``fit`` and ``size`` (h, w) as in a recipe's ``input``; see `region_widths`. Where an image is
    stretched, the smaller of its two scales counts.
    """
    drawn = [one for one in seen if one.mask is not None and one.mask.widths]
    if not drawn:
        return []
    try:
        widths = {one: _widths(one, fit, size) for one in _by_path(drawn)}
    except ImageError as error:
        return [Finding("error", "native_too_large", category, str(error))]
    every = np.concatenate(list(widths.values()))
    thin = int((every < THIN).sum())
    place = _place(fit, size)
    lost = [one for one in widths if (widths[one] < THIN).all()]
    text = (
        f"{share(thin, len(every))} defect regions are under {THIN:g} px wide {place}; "
        f"{share(len(lost), len(drawn))} defect images have no wider one"
    )
    many = thin > MANY * len(every)
    return [
        Finding(
            "warning" if many else "info", "defect_size", category, text,
            _advice(drawn, fit, size) if many else "",
            tuple(
                Item(one.files, f"widest region {widths[one].max():.1f} px {place}",
                     float(-widths[one].max()), one.record.mask_values)
                for one in sorted(lost, key=lambda one: float(widths[one].max()))
            ),
            {"place": place, "under": THIN, "edges": EDGES, "histogram": _histogram(widths)},
        )
    ]  # fmt: skip


def count_findings(category: str, seen: Sequence[SeenImage]) -> list[Finding]:
    """How many images of each type there are, and of which there are too few."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for one in seen:
        counts[one.record.label][one.record.split] += 1
    labels = sorted(counts, key=lambda label: (label != GOOD, label))
    text = "; ".join(
        f"{label} {sum(counts[label].values())} "
        f"({', '.join(f'{n} {split}' for split, n in sorted(counts[label].items()))})"
        for label in labels
    )
    found = [
        Finding("info", "counts", category, text, numbers={k: dict(v) for k, v in counts.items()})
    ]
    types = [label for label in labels if label != GOOD]
    few = [label for label in types if sum(counts[label].values()) < FEW]
    if few:
        found.append(
            Finding(
                "warning", "few_masks", category,
                "few images of " + ", ".join(f"{x} ({sum(counts[x].values())})" for x in few)
                + f": fewer than {FEW} cannot serve training, validation and test",
                "Draw more masks, join types that look alike, or take their numbers as anecdotes.",
            )
        )  # fmt: skip
    trained = [label for label in types if counts[label].keys() - {"test"}]
    if types and not trained:
        found.append(
            Finding(
                "info", "no_masks_to_train", category,
                "all defect images are in the test split",
                "Lend some to training (data.borrow_defects), or make defects for it.",
            )
        )  # fmt: skip
    elif unmet := [label for label in types if label not in trained]:
        found.append(
            Finding(
                "info", "unseen_types", category,
                f"in the test split only: {', '.join(unmet)}",
                "Numbers on these say how the model does on defects it has never met.",
            )
        )  # fmt: skip
    return found


def _by_path(drawn: Sequence[SeenImage]) -> list[SeenImage]:
    return sorted(drawn, key=lambda one: one.record.path)


def _widths(one: SeenImage, fit: Fit, size: tuple[int, int]) -> NDArray[np.float64]:
    assert one.mask is not None
    way = plan(one.mask.size, fit, size=size)
    scale = min(now / was for now, was in zip(way.resized, way.original, strict=True))
    return np.array(one.mask.widths) * scale


def _histogram(widths: dict[Any, NDArray[np.float64]]) -> dict[str, list[int]]:
    """Type → regions in each bucket, below the first edge to above the last."""
    counts: dict[str, NDArray[np.intp]] = {}
    for one, own in widths.items():
        found = np.bincount(np.searchsorted(EDGES, own, side="right"), minlength=len(EDGES) + 1)
        counts[one.record.label] = counts.get(one.record.label, 0) + found
    return {label: counts[label].tolist() for label in sorted(counts)}


def _place(fit: Fit, size: tuple[int, int]) -> str:
    if fit == "native":
        return "at their own size"
    side = f"{size[0]}²" if size[0] == size[1] else f"{size[0]} × {size[1]}"
    return f"at {side} ({fit})"


def _advice(drawn: Sequence[SeenImage], fit: Fit, size: tuple[int, int]) -> str:
    masks = [one.mask for one in drawn if one.mask is not None]
    own = np.concatenate([mask.widths for mask in masks])
    at_most = float((own < THIN).mean())
    if fit == "native" or at_most > MANY:
        return (
            f"The images themselves hold no more: {at_most:.0%} are under {THIN:g} px there. Take "
            "sharper or closer pictures, or draw masks as wide as the defects."
        )
    native = max(mask.size[0] * mask.size[1] for mask in masks) <= MAX_NATIVE_PIXELS
    crops = "input.fit native with crops (augment.crop)"
    for side in _SIDES:
        if side > max(size):
            thin = np.concatenate([_widths(one, "letterbox", (side, side)) for one in drawn]) < THIN
            if thin.mean() <= MANY:
                larger = f"Use input.size {side} ({thin.mean():.0%} under {THIN:g} px there)"
                return f"{larger}, or {crops}." if native else f"{larger}."
    return f"Use {crops}, or cut the images into tiles." if native else "Cut the images into tiles."
