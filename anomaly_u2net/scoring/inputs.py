"""What is to be scored: files, folders, patterns and a manifest become one list, each path once."""

from __future__ import annotations

import csv
import glob
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from anomaly_u2net.data.images import EXTENSIONS
from anomaly_u2net.errors import InputError

logger = logging.getLogger(__name__)

_MANIFEST_COLUMNS = ("path", "category")


@dataclass(frozen=True, slots=True)
class ScoreInput:
    """One image to score; ``path`` is made absolute and its symbolic links are resolved.

    ``category`` is ``None`` when nothing tells it; scoring then gives an ERROR row.

    >>> ScoreInput(Path("line/../a.png"), "brick").path == Path("a.png").resolve()
    True
    """

    path: Path
    category: str | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", resolve(self.path))


def collect_inputs(
    sources: Sequence[str | Path],
    *,
    manifest: str | Path | None = None,
    category: str | None = None,
    known_categories: Sequence[str],
    out: str | Path | None = None,
) -> list[ScoreInput]:
    """Every image named by ``sources`` and ``manifest``, each path once, in the order named.

    A source is a file, a folder or a pattern (``*``, ``?``, ``[…]``, ``**``); what exists under
    its literal name is no pattern. A folder is searched with its subfolders, sorted by name:
    everything with an image extension is an input (a folder ``x.png`` too, as an ERROR row later);
    other files are left out with one logged line, and hidden names (``.name``) silently. A
    pattern stands for the paths that it matches, of the files those with an image extension. A
    file named literally is an input whatever its name, even when it does not exist: it becomes an
    ERROR row.

    ``manifest``: CSV, UTF-8, columns ``path[,category]``, paths relative to its folder.
    ``out``: the output folder; what lies below it is left out of folders and patterns.

    The category of an image is the first of: ``category``; its cell in the manifest; the nearest
    parent folder named like one of ``known_categories``; the only known category; ``None``. Of a
    path named twice the first counts.

    Raises ``InputError``: nothing to score, a pattern that matches no image, an unknown
    ``category``, a manifest that cannot be used, a source inside ``out``.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("brick/b.png", "brick/a.png", "brick/notes.txt"):
    ...     (folder / name).parent.mkdir(exist_ok=True)
    ...     (folder / name).touch()
    >>> found = collect_inputs([folder, folder / "**/b.png"], known_categories=["brick", "tile"])
    >>> [(item.path.name, item.category) for item in found]
    [('a.png', 'brick'), ('b.png', 'brick')]
    """
    if category is not None and category not in known_categories:
        raise InputError(
            f"unknown category {category!r}: expected one of the calibrated categories "
            f"({', '.join(known_categories) or 'none: calibrate the model first'})"
        )
    search = _Search(None if out is None else resolve(out))
    named = [path for source in sources for path in search.expand(source)]
    told: dict[Path, str | None] = {}
    if manifest is not None:
        listed = _read_manifest(Path(manifest))
        for path in listed:
            search.refuse_output(path)
        named += listed
        told = {resolve(path): cell for path, cell in listed.items()}
    search.report()

    inputs: dict[Path, ScoreInput] = {}
    for path in named:
        resolved = resolve(path)
        if resolved not in inputs:
            known = category or told.get(resolved) or _category_of(path, known_categories)
            inputs[resolved] = ScoreInput(resolved, known)
    if not inputs:
        where = ", ".join(str(source) for source in [*sources, manifest] if source is not None)
        raise InputError(
            f"nothing to score: expected images ({', '.join(EXTENSIONS)}), "
            f"found none in {where or 'no source at all'}; check the paths"
        )
    return list(inputs.values())


def resolve(path: str | Path) -> Path:
    """The absolute path with symbolic links resolved, whether it exists or not."""
    try:
        return Path(os.path.realpath(path))
    except ValueError as error:
        raise InputError(f"{str(path)!r}: expected a path, got a NUL character in it") from error


def inside(path: Path, folder: Path) -> bool:
    """Whether a resolved path is ``folder`` or lies below it."""
    return path == folder or folder in path.parents


@dataclass
class _Search:
    """Turns sources into paths; remembers where it was and what it left out."""

    out: Path | None

    def __post_init__(self) -> None:
        self._seen: set[Path] = set()
        self._left_out: Counter[str] = Counter()

    def expand(self, source: str | Path) -> Iterator[Path]:
        text = str(source)
        if not text:
            raise InputError("expected a file, a folder or a pattern, got an empty text")
        if any(sign in text for sign in "*?[") and not os.path.lexists(text):
            yield from self._matches(text)
        else:
            self.refuse_output(Path(text))
            yield from self._under(Path(text))

    def refuse_output(self, path: Path) -> None:
        if self.out is not None and inside(resolve(path), self.out):
            raise InputError(
                f"{path} lies in the output folder {self.out}: expected images outside it; "
                "choose another output folder"
            )

    def report(self) -> None:
        if self._left_out:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self._left_out.items()))
            logger.warning("left out files without an image extension: %s", kinds)

    def _matches(self, pattern: str) -> Iterator[Path]:
        matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207
        found = [path for match in matches for path in self._found(match)]
        if not found:
            raise InputError(
                f"the pattern {pattern!r} matches no image: expected files with one of "
                f"{', '.join(EXTENSIONS)}, it matches {len(matches)} other paths; check it"
            )
        yield from found

    def _found(self, path: Path) -> Iterator[Path]:
        """What to do with a path that was found rather than named."""
        if _named_like_image(path):
            if self.out is None or not inside(resolve(path), self.out):
                yield path
        elif _is_folder(path):
            yield from self._under(path)
        else:
            self._left_out[path.suffix.lower() or "without a suffix"] += 1

    def _under(self, path: Path) -> Iterator[Path]:
        if _named_like_image(path) or not _is_folder(path):
            yield path
            return
        folder = resolve(path)
        if folder in self._seen or (self.out is not None and inside(folder, self.out)):
            return
        self._seen.add(folder)
        try:
            entries = sorted(path.iterdir())
        except OSError:
            yield path  # cannot be listed: an ERROR row rather than silently nothing
            return
        for entry in entries:
            if not entry.name.startswith("."):
                yield from self._found(entry)


def _named_like_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # its parent may be listed but not entered
        return False


def _category_of(path: Path, known: Sequence[str]) -> str | None:
    """By the nearest parent folder as it was named, then as it is resolved, or the only one."""
    named = Path(os.path.abspath(path))  # noqa: PTH100 (it takes ".." out)
    for parent in (*named.parents, *resolve(path).parents):
        if parent.name in known:
            return parent.name
    return known[0] if len(known) == 1 else None


def _read_manifest(path: Path) -> dict[Path, str | None]:
    """Each path of a manifest with its category cell, ``None`` where that is empty."""
    expected = "expected a CSV file (UTF-8) with the columns path[,category]"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = list(reader.fieldnames or [])
            if "path" not in columns or len(set(columns)) < len(columns):
                raise InputError(f"{path}: {expected}, found the columns {columns}")
            if unknown := sorted(set(columns) - set(_MANIFEST_COLUMNS)):
                raise InputError(f"{path}: {expected}, found also {unknown}; remove those columns")
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: {expected}, could not read it: {error}") from error
    listed: dict[Path, str | None] = {}
    told: dict[Path, tuple[int, str | None]] = {}
    for line, row in rows:
        if None in row or None in row.values() or not row["path"]:
            raise InputError(
                f"{path} line {line}: expected {len(columns)} cells and a path, found another "
                "number or no path; quote names that contain a comma"
            )
        named, cell = path.parent / row["path"], row.get("category") or None
        before, other = told.setdefault(resolve(named), (line, cell))
        if other != cell:
            raise InputError(
                f"{path} line {line}: {row['path']!r} has the category {cell!r}, but "
                f"{other!r} on line {before}; keep one"
            )
        listed[named] = cell
    return listed
