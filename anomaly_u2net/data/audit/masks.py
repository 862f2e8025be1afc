"""Findings on masks: unreadable, of another size, empty, full, on nothing visible, soft."""

from __future__ import annotations

from collections.abc import Sequence

from anomaly_u2net.data.audit.findings import Finding, Item, share
from anomaly_u2net.data.audit.seen import SeenImage, SeenMask

#: More of the image than this is no defect on a part any more: perhaps black and white are swapped.
MOST = 0.5
#: A mask on nothing visible would exceed this one time in two, a visible one hardly ever.
UNSEEN = 0.5


def mask_findings(category: str, seen: Sequence[SeenImage]) -> list[Finding]:
    """Of the defect images of one category, those whose mask is wrong or doubtful."""
    broken = [Item(one.files, one.mask_error) for one in seen if one.mask_error]
    masks = [(one, one.mask) for one in seen if one.mask is not None]
    sizes = [(one, mask) for one, mask in masks if mask.size != one.size]
    empty = [(one, mask) for one, mask in masks if not mask.marked]
    covering = [(one, mask) for one, mask in masks if _cover(mask) > MOST]
    full = [(one, mask) for one, mask in covering if _cover(mask) == 1]
    large = [(one, mask) for one, mask in covering if _cover(mask) < 1]
    whole = len(masks) + len(broken)
    found = [
        Finding(
            "error", "mask_unreadable", category,
            f"{share(len(broken), whole)} masks cannot be read",
            "Save them again as gray PNG, defects white (255) on black (0).",
            tuple(broken),
        ),
        Finding(
            "error", "mask_size", category,
            f"{share(len(sizes), whole)} masks have another size than their image",
            "Export them again at the size of the image: masks are not resized.",
            tuple(
                Item(one.files, f"image {_size(one.size)}, mask {_size(mask.size)} (H × W)")
                for one, mask in sizes
            ),
        ),
        Finding(
            "error", "mask_empty", category,
            f"{share(len(empty), whole)} masks of defect images mark nothing",
            "Draw the defect, or move the image to the good ones.",
            tuple(Item(one.files) for one, _ in empty),
        ),
        Finding(
            "error", "mask_full", category,
            f"{share(len(full), whole)} masks mark the whole image",
            "Draw the defect: a mask without background says nothing about where it is.",
            tuple(Item(one.files) for one, _ in full),
        ),
        Finding(
            "warning", "mask_large", category,
            f"{share(len(large), whole)} masks mark more than half of the image",
            "Look at them: black and white may be swapped.",
            _ranked(
                [
                    Item(one.files, f"{_cover(m):.0%} marked", _cover(m), one.record.mask_values)
                    for one, m in large
                ]
            ),
        ),
        _unseen(category, masks),
        _between(category, masks),
    ]  # fmt: skip
    return [finding for finding in found if finding.items]


def _unseen(category: str, masks: list[tuple[SeenImage, SeenMask]]) -> Finding:
    judged = [(one, mask.standing) for one, mask in masks if mask.standing is not None]
    items = [
        Item(
            one.files,
            f"contrast {s.contrast:.2f}; {s.elsewhere:.0%} of {s.places} other places have as much",
            s.elsewhere,
            one.record.mask_values,
        )
        for one, s in judged
        if s.elsewhere > UNSEEN
    ]
    return Finding(
        "warning", "mask_unseen", category,
        f"{share(len(items), len(judged))} masks lie where the image shows no more contrast to its "
        "surroundings than half of the other places do",
        "Look at them: is the mask shifted, of another image, or the defect hardly visible? Faint "
        "defects on a busy surface look the same to this check.",
        _ranked(items),
        {"judged": len(judged), "too_large_to_judge": len(masks) - len(judged)},
    )  # fmt: skip


def _between(category: str, masks: list[tuple[SeenImage, SeenMask]]) -> Finding:
    soft = [(one, mask) for one, mask in masks if mask.between]
    return Finding(
        "info", "mask_values", category,
        f"{share(len(soft), len(masks))} masks have values between black and white (soft edges or "
        "JPEG); above 127 counts as a defect",
        items=tuple(Item(one.files, f"{mask.between} pixels") for one, mask in soft),
    )  # fmt: skip


def _cover(mask: SeenMask) -> float:
    return mask.marked / (mask.size[0] * mask.size[1])


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"


def _ranked(items: list[Item]) -> tuple[Item, ...]:
    return tuple(sorted(items, key=lambda item: -(item.value or 0)))
