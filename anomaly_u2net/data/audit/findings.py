"""What an audit says: findings, worst first, each with what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from anomaly_u2net.errors import InputError
from anomaly_u2net.types import MaskValues

Severity: TypeAlias = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing found: the files it is about, the worst first, and what was seen of it.

    value: what items are ranked by; ``None`` where there is no order. mask_values: how the mask among
    the files is read.
    """

    files: tuple[Path, ...]
    note: str = ""
    value: float | None = None
    mask_values: MaskValues = "white"


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of thing, of one category (``""``: of all).

    check: its name. text: what was found, with counts. advice: what to do. items: every one.
    numbers: what the text was made from, for other programs; undefined is ``None``.
    """

    severity: Severity
    check: str
    category: str
    text: str
    advice: str = ""
    items: tuple[Item, ...] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Audit:
    """The findings on a data set of ``images`` images, errors first.

    joined: groups of two or more images that show the same thing, given or found.
    """

    images: int
    findings: tuple[Finding, ...]
    joined: tuple[tuple[Path, ...], ...] = ()

    def of(self, severity: Severity) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == severity]

    def named(self, check: str) -> list[Finding]:
        """The findings of one check, by category."""
        return [finding for finding in self.findings if finding.check == check]

    def fails(self, level: Severity = "warning") -> bool:
        """Whether there is a finding of this severity or a worse one.

        >>> Audit(3, (Finding("warning", "few_masks", "bolt", "2 masks"),)).fails("error")
        False
        """
        if level not in SEVERITIES:
            raise InputError(f"expected a severity, {', '.join(SEVERITIES)}, got {level!r}")
        bad = SEVERITIES[: SEVERITIES.index(level) + 1]
        return any(finding.severity in bad for finding in self.findings)

    def with_findings(self, more: Sequence[Finding]) -> Audit:
        """A copy with findings added, sorted again."""
        return Audit(self.images, worst_first([*self.findings, *more]), self.joined)

    def to_dict(self, root: str | Path) -> dict[str, Any]:
        """Plain JSON types; files relative to ``root`` where they lie under it."""
        found = []
        for finding in self.findings:
            content = asdict(finding)
            content["items"] = [
                {"files": [shown(f, root) for f in i.files], "note": i.note, "value": i.value}
                for i in finding.items
            ]
            found.append(content)
        return {
            "format": "anomaly_u2net.audit/1",
            "images": self.images,
            "counts": {severity: len(self.of(severity)) for severity in SEVERITIES},
            "findings": found,
            "groups": [[shown(file, root) for file in group] for group in self.joined],
        }


def worst_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Errors, warnings, then what is only good to know; otherwise in the order given."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


def shown(file: Path, root: str | Path) -> str:
    """A file as the reader knows it: relative to the data set."""
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)


def share(part: int, whole: int) -> str:
    """``"3 of 40 (8 %)"``.

    >>> share(3, 40)
    '3 of 40 (8 %)'
    """
    return f"{part} of {whole} ({100 * part / whole:.0f} %)" if whole else f"{part} of {whole}"
