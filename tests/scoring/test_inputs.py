from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.errors import InputError
from anomaly_u2net.scoring import ScoreInput, collect_inputs

KNOWN = ("brick", "tile")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def relative(folder: Path, inputs: list[ScoreInput]) -> list[str]:
    return [item.path.relative_to(folder.resolve()).as_posix() for item in inputs]


def write_manifest(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_folder_gives_its_images_sorted_with_subfolders(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "b.png", "a/2.JPG", "a/1.tiff", "a/x/0.bmp", "c/0.webp")
    touch(tmp_path, "notes.txt", "a/Thumbs.db", "a/Makefile", ".hidden.png", ".cache/1.png")
    (tmp_path / "directory.png").mkdir()
    touch(tmp_path, "directory.png/inside.png")
    with caplog.at_level(logging.WARNING):
        found = collect_inputs([tmp_path], known_categories=KNOWN)
    expected = ["a/1.tiff", "a/2.JPG", "a/x/0.bmp", "b.png", "c/0.webp", "directory.png"]
    assert relative(tmp_path, found) == expected
    assert "without an image extension: 1 .db, 1 .txt, 1 without a suffix" in caplog.text


def test_a_path_named_twice_is_one_input_in_the_order_first_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.png", "b.png", "sub/c.png")
    monkeypatch.chdir(tmp_path)
    manifest = write_manifest(tmp_path / "list.csv", "path\nsub/../a.png\nsub/c.png\n")
    found = collect_inputs(
        ["b.png", tmp_path, "./sub/../b.png", "*.png"], manifest=manifest, known_categories=KNOWN
    )
    assert relative(tmp_path, found) == ["b.png", "a.png", "sub/c.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs symbolic links")
def test_symbolic_links_are_followed_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "store/x.png", "tile/notes.txt")
    line = tmp_path / "tile"
    (line / "linked.png").symlink_to(tmp_path / "store" / "x.png")
    (line / "again").symlink_to(line)
    (line / "store").symlink_to(tmp_path / "store")
    (line / "dangling.png").symlink_to(tmp_path / "nothing.png")
    (line / "loop.png").symlink_to(line / "loop.png")
    found = collect_inputs([line], known_categories=KNOWN)
    names = ["nothing.png", "store/x.png", "tile/loop.png"]
    assert sorted(relative(tmp_path, found)) == names
    assert caplog.messages == ["left out files without an image extension: 1 .txt"]
    assert {item.category for item in found} == {"tile"}  # the folder as it was named


def test_literal_names_are_inputs_whatever_they_are(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt", "part[1].png", "part1.png", ".hidden.png")
    named = [tmp_path / name for name in ("gone.png", "notes.txt", "part[1].png", ".hidden.png")]
    found = collect_inputs(named, known_categories=KNOWN)
    assert [item.path for item in found] == [path.resolve() for path in named]


def test_patterns(tmp_path: Path) -> None:
    touch(tmp_path, "a/good/1.png", "a/bad/2.png", "b/good/3.png", "b/good/notes.txt", "4.png")

    def match(pattern: str) -> list[str]:
        return relative(tmp_path, collect_inputs([tmp_path / pattern], known_categories=KNOWN))

    assert match("*.png") == ["4.png"]
    assert match("**/*.png") == ["4.png", "a/bad/2.png", "a/good/1.png", "b/good/3.png"]
    assert match("*/good") == ["a/good/1.png", "b/good/3.png"]
    assert match("b/good/*") == ["b/good/3.png"]
    assert match("a/*/[0-1].png") == ["a/good/1.png"]
    for pattern in ("*.jpg", "b/good/*.txt", "nowhere/**"):
        with pytest.raises(InputError, match="matches no image: expected files with one of"):
            match(pattern)


def test_the_category_comes_from_the_first_that_tells_it(tmp_path: Path) -> None:
    touch(tmp_path, "tile/brick/a.png", "tile/x/b.png", "other/c.png")
    manifest = write_manifest(
        tmp_path / "m.csv", "path,category\ntile/x/b.png,brick\nother/c.png,\n"
    )

    def categories(**options: object) -> list[str | None]:
        found = collect_inputs([tmp_path], **{"known_categories": KNOWN, **options})  # type: ignore[arg-type]
        return [item.category for item in found]  # sorted: other/c, tile/brick/a, tile/x/b

    assert categories() == [None, "brick", "tile"]
    assert categories(manifest=manifest) == [None, "brick", "brick"]
    assert categories(manifest=manifest, category="tile") == ["tile", "tile", "tile"]
    assert categories(known_categories=("cable",)) == ["cable", "cable", "cable"]
    assert categories(known_categories=()) == [None, None, None]
    with pytest.raises(InputError, match=r"unknown category 'bolt': expected one.*brick, tile"):
        categories(category="bolt")


def test_a_parent_that_is_left_by_dots_does_not_count(tmp_path: Path) -> None:
    touch(tmp_path, "brick/keep.png", "a.png")
    (found,) = collect_inputs([tmp_path / "brick" / ".." / "a.png"], known_categories=KNOWN)
    assert found.category is None


def test_a_manifest_is_relative_to_its_folder_and_keeps_its_order(tmp_path: Path) -> None:
    text = '\ufeffcategory,path\nbrick,../b.png\ntile,"a,\n1.png"\nbolt,gone.png\n'
    manifest = write_manifest(tmp_path / "lists" / "m.csv", text)
    found = collect_inputs([], manifest=manifest, known_categories=KNOWN)
    names = ["b.png", "lists/a,\n1.png", "lists/gone.png"]
    assert relative(tmp_path, found) == names
    assert [item.category for item in found] == ["brick", "tile", "bolt"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (
            "",
            r"expected a CSV file \(UTF-8\) with the columns path\[,category\], found the columns",
        ),
        ("file,category\na.png,brick\n", r"found the columns \['file', 'category'\]"),
        ("path,path\na.png,b.png\n", "found the columns"),
        ("path,categroy\na.png,brick\n", r"found also \['categroy'\]; remove those columns"),
        ("path,category\na.png,brick\n,tile\n", "line 3: expected 2 cells and a path"),
        ("path\na,b.png\n", "line 2: expected 1 cells and a path.*quote names"),
        ("path,category\na.png\n", "line 2: expected 2 cells"),
        ('path\n"a.png\n', "could not read it: unexpected end of data"),
        ("path,category\na.png,brick\n./a.png,tile\n", "line 3: .*'tile', but 'brick' on line 2"),
        ("path\n", "nothing to score: expected images"),
    ],
)
def test_a_manifest_that_cannot_be_used(tmp_path: Path, text: str, match: str) -> None:
    manifest = write_manifest(tmp_path / "m.csv", text)
    with pytest.raises(InputError, match=match):
        collect_inputs([], manifest=manifest, known_categories=KNOWN)


def test_a_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("path\ncafé.png\n".encode("latin-1"))
    for name in ("gone.csv", "latin.csv", "."):
        with pytest.raises(InputError, match="could not read it"):
            collect_inputs([], manifest=tmp_path / name, known_categories=KNOWN)


def test_nothing_to_score_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(InputError, match=r"nothing to score.*found none in"):
        collect_inputs([tmp_path], known_categories=KNOWN)
    with pytest.raises(InputError, match="found none in no source at all"):
        collect_inputs([], known_categories=KNOWN)
    with pytest.raises(InputError, match="got an empty text"):
        collect_inputs([""], known_categories=KNOWN)
    with pytest.raises(InputError, match="a NUL character"):
        collect_inputs(["a\0.png"], known_categories=KNOWN)


def test_the_output_folder_is_left_out_of_what_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "a.png", "out/overlays/a.png", "out/b.png", "out/rows.csv", "outer/c.png")
    out = tmp_path / "out"
    for source in (tmp_path, tmp_path / "**", tmp_path / "**/*.png", tmp_path / "*"):
        found = collect_inputs([source], known_categories=KNOWN, out=out)
        assert relative(tmp_path, found) == ["a.png", "outer/c.png"]
        if source == tmp_path:
            assert caplog.messages == []  # nor are its tables called left out


def test_a_source_inside_the_output_folder_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    manifest = write_manifest(tmp_path / "m.csv", "path\na.png\n")
    for source in (tmp_path, tmp_path / "a.png"):
        with pytest.raises(InputError, match="lies in the output folder"):
            collect_inputs([source], known_categories=KNOWN, out=tmp_path)
    with pytest.raises(InputError, match="lies in the output folder"):
        collect_inputs([], manifest=manifest, known_categories=KNOWN, out=tmp_path)


def test_a_folder_that_cannot_be_listed_is_an_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.png", "closed/b.png")
    listdir = os.listdir

    def refuse(path: str | Path = ".") -> list[str]:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    assert relative(tmp_path, collect_inputs([tmp_path], known_categories=KNOWN)) == [
        "a.png",
        "closed",
    ]


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(4)), repeat=st.lists(st.integers(0, 3), max_size=4))
def test_any_naming_gives_each_path_once_in_first_order(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], repeat: list[int]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "naming"
    touch(folder, *(f"{number}.png" for number in range(4)))
    named = [folder / f"{number}.png" for number in [*order, *repeat]]
    found = collect_inputs([*named, folder], known_categories=KNOWN)
    assert relative(folder, found) == [f"{number}.png" for number in order]
