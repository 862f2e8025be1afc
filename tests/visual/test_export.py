from __future__ import annotations

import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_u2net.errors import InputError
from anomaly_u2net.visual import claim_names, overlay_names, write_png
from anomaly_u2net.visual.overlay import PREDICTED


def named(*paths: str) -> list[str]:
    return overlay_names([Path(path) for path in paths])


def test_png_round_trip_keeps_rgb(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3)).astype(np.uint8)
    write_png(tmp_path / "deep" / "a.png", image[:, ::-1])
    read = cv2.imread(str(tmp_path / "deep" / "a.png"), cv2.IMREAD_COLOR)
    assert read is not None
    np.testing.assert_array_equal(read[:, ::-1, ::-1], image)
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["a.png"]


def test_png_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.png, got 'a\.jpg'"):
        write_png(tmp_path / "a.jpg", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(InputError, match="uint8 RGB"):
        write_png(tmp_path / "a.png", np.zeros((4, 4, 3)))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_refusing_encoder_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, image = tmp_path / "a.png", np.full((4, 4, 3), PREDICTED, np.uint8)
    write_png(path, image)
    before = path.read_bytes()
    monkeypatch.setattr(cv2, "imencode", lambda *_: (False, np.zeros(0, np.uint8)))
    with pytest.raises(InputError, match=r"encoder refused an image of shape \(4, 4, 3\)"):
        write_png(path, image)
    assert path.read_bytes() == before


def test_single_stems_stay() -> None:
    assert named("in/a.jpg", "in/b.tif", "out/c.d.png") == ["a.png", "b.png", "c.d.png"]
    assert named() == []


def test_folders_tell_apart() -> None:
    assert named("t/scratch/000.png", "t/good/000.png", "t/good/001.png") == [
        "scratch__000.png",
        "good__000.png",
        "001.png",
    ]
    assert named("a/x/0.png", "b/x/0.png") == ["a__x__0.png", "b__x__0.png"]
    assert named("/a/0.png", "/b/0.png") == ["a__0.png", "b__0.png"]
    assert named("../0.png", "a/0.png")[1].startswith("0__")


def test_a_folder_name_never_takes_a_real_stem() -> None:
    names = named("a/0.png", "b/0.png", "c/a__0.png")
    assert names[2] == "a__0.png"
    assert len({*names}) == 3


def test_where_no_folder_helps_a_hash_does() -> None:
    first, second = named("in/part.jpg", "in/part.png")
    assert first != second
    for name in (first, second):
        stem, digest = name.removesuffix(".png").split("__")
        assert stem == "part"
        assert len(digest) == 8
    assert named("in/part.png", "in/part.jpg") == [second, first]


def test_case_and_unicode_do_not_collide() -> None:
    assert named("x/Part.png", "y/part.png") == ["x__Part.png", "y__part.png"]
    composed = unicodedata.normalize("NFC", "fräs")
    names = named(f"x/{composed}.png", f"x/{unicodedata.normalize('NFD', composed)}.png")
    assert len({unicodedata.normalize("NFC", name) for name in names}) == 2


def test_long_names_are_shortened() -> None:
    long = "n" * 251
    names = named(f"a/{long}.png", f"b/{long}.png", "c/" + "m" * 255)
    assert all(len(name) <= 255 for name in names)
    assert names[0].startswith("n" * 50 + "__")
    assert names[2].startswith("m" * 50 + "__")


def test_equal_paths_have_equal_names() -> None:
    names = named("a/0.png", "b/0.png", "a/0.png")
    assert names[0] == names[2] != names[1]


def test_a_path_without_a_name() -> None:
    with pytest.raises(InputError, match="expected the path of an image file, got '/'"):
        named("/")


PART = st.text(st.sampled_from("aAb_ßé"), min_size=1, max_size=4)
PATHS = st.lists(
    st.builds(
        lambda folders, stem, suffix: Path(*folders, stem + suffix),
        st.lists(PART, max_size=3),
        st.one_of(PART, st.sampled_from(["a__a", "A__b", "b__a__a", "a__b__b"])),
        st.sampled_from([".png", ".jpg", ""]),
    ),
    min_size=1,
    max_size=24,
)


@settings(max_examples=200, deadline=None)
@given(paths=PATHS, data=st.data())
def test_names_are_injective_stable_and_keep_single_stems(
    paths: list[Path], data: st.DataObject
) -> None:
    def fold(name: str) -> str:
        return unicodedata.normalize("NFC", name).casefold()

    names = dict(zip(paths, overlay_names(paths), strict=True))
    assert len({fold(name) for name in names.values()}) == len(set(paths))

    shuffled = data.draw(st.permutations(paths))
    assert dict(zip(shuffled, overlay_names(shuffled), strict=True)) == names

    stems = [fold(path.stem) for path in names]
    for path, name in names.items():
        if stems.count(fold(path.stem)) == 1:
            assert name == f"{path.stem}.png"
        else:
            assert fold(name.removesuffix(".png")) not in stems
        assert Path(name).name == name


def test_names_are_kept_over_many_calls(tmp_path: Path) -> None:
    one, two, three = Path("day1/0001.png"), Path("day2/0001.png"), Path("day3/0002.png")
    assert claim_names(tmp_path, [one]) == {one: "0001.png"}
    later = claim_names(tmp_path, [two, three])
    assert later == {two: "day2__0001.png", three: "0002.png"}
    assert claim_names(tmp_path, [three, one, two]) == later | {one: "0001.png"}
    clash = Path("else/day2__0001.png")  # its own stem is taken by another image's picture
    name = claim_names(tmp_path, [clash])[clash]
    assert name not in later.values()
    assert name.startswith("day2__0001__")
    (tmp_path / "index.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="expected the columns name and path, cannot read it"):
        claim_names(tmp_path, [one])
