from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from anomaly_u2net.data.images import image_files, read_image, read_mask, read_sample
from anomaly_u2net.errors import ImageError, MaskError
from anomaly_u2net.types import ImageRecord

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
DEEP = np.random.default_rng(1).integers(0, 65536, (5, 7, 3), dtype=np.uint16)
PNG = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int, *, bits: int = 8, colour: int = 2) -> bytes:
    return PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))


def deep_png(values: np.ndarray, *, colour: int, exif: bytes = b"") -> bytes:
    """A 16-bit PNG by the letter of its specification, filter 0."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = png_header(values.shape[1], values.shape[0], bits=16, colour=colour)
    head += chunk(b"eXIf", exif) if exif else b""
    return head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def encoded(values: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(values).save(buffer, **options)
    return buffer.getvalue()


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def to_8_bits(values: np.ndarray) -> np.ndarray:
    return np.rint(values / 257).astype(np.uint8)


# --- images ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["PNG", "TIFF", "BMP", "WEBP"])
@pytest.mark.parametrize("extension", ["png", "dat"])
def test_lossless_formats_come_back_exactly_whatever_the_extension(
    tmp_path: Path, name: str, extension: str
) -> None:
    options = {"lossless": True} if name == "WEBP" else {}
    path = written(tmp_path / f"a.{extension}", encoded(RGB, format=name, **options))
    image = read_image(path)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable
    np.testing.assert_array_equal(image, RGB)


def test_jpeg_agrees_with_opencv(tmp_path: Path) -> None:
    smooth = cv2.resize(RGB, (70, 50), interpolation=cv2.INTER_CUBIC)
    path = written(tmp_path / "a.jpg", encoded(smooth, format="JPEG", quality=95))
    other = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    assert np.abs(read_image(path).astype(int) - other).max() <= 2


def test_gray_one_bit_palette_and_alpha(tmp_path: Path) -> None:
    gray, bits = RGB[..., 0], RGB[..., 0] > 127
    expected = np.dstack([gray] * 3)
    path = tmp_path / "a.png"
    np.testing.assert_array_equal(read_image(written(path, encoded(gray, format="PNG"))), expected)
    Pillow.fromarray(bits).save(path)
    np.testing.assert_array_equal(read_image(path), np.dstack([bits] * 3) * np.uint8(255))
    Pillow.fromarray(gray).quantize(256).save(path, transparency=bytes([9, 0, 7]))
    np.testing.assert_array_equal(read_image(path), expected)
    # Alpha is dropped, not blended: a transparent pixel keeps its colour.
    alpha = np.zeros((5, 7), dtype=np.uint8)
    Pillow.fromarray(np.dstack([RGB, alpha])).save(path)
    np.testing.assert_array_equal(read_image(path), RGB)
    Pillow.merge("LA", [Pillow.fromarray(gray), Pillow.fromarray(alpha)]).save(path)
    np.testing.assert_array_equal(read_image(path), expected)


def test_sixteen_bits_go_to_eight_on_one_absolute_scale(tmp_path: Path) -> None:
    dark = np.array([[0, 128, 129, 257, 385, 386, 1000, 65535]], dtype=np.uint16)
    path = written(tmp_path / "a.png", deep_png(dark, colour=0))
    assert read_image(path)[0, :, 1].tolist() == [0, 0, 1, 1, 1, 2, 4, 255]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bit_png(tmp_path: Path, channels: int) -> None:
    values = np.concatenate([DEEP, DEEP[::-1]], axis=2)[..., :channels]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    image = read_image(written(tmp_path / "a.png", deep_png(values, colour=colour)))
    expected = values[..., :3] if channels >= 3 else np.repeat(values[..., :1], 3, axis=2)
    np.testing.assert_array_equal(image, to_8_bits(expected))


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_sixteen_bit_tiff(tmp_path: Path, byteorder: str, compression: str | None) -> None:
    path, options = tmp_path / "a.tif", {"byteorder": byteorder, "compression": compression}
    tifffile.imwrite(path, DEEP, photometric="rgb", **options)
    np.testing.assert_array_equal(read_image(path), to_8_bits(DEEP))
    tifffile.imwrite(path, DEEP[..., 0], photometric="minisblack", **options)
    np.testing.assert_array_equal(read_image(path)[..., 2], to_8_bits(DEEP[..., 0]))


def test_tiff_where_white_is_zero_is_inverted(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, DEEP[..., 0], photometric="miniswhite", byteorder="<")
    np.testing.assert_array_equal(read_image(path)[..., 0], to_8_bits(65535 - DEEP[..., 0]))


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """EXIF by its words: row 0 of the file is the visual <first>, column 0 the visual <second>."""
    sides = {
        1: ("top", "left"),
        2: ("top", "right"),
        3: ("bottom", "right"),
        4: ("bottom", "left"),
        5: ("left", "top"),
        6: ("right", "top"),
        7: ("right", "bottom"),
        8: ("left", "bottom"),
    }[orientation]
    upright = values if sides[0] in ("top", "bottom") else np.swapaxes(values, 0, 1)
    upright = upright[::-1] if "bottom" in sides else upright
    return upright[:, ::-1] if "right" in sides else upright


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_images_and_masks_alike(
    tmp_path: Path, orientation: int
) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    block = exif.tobytes()
    for name in ("PNG", "TIFF"):
        path = written(tmp_path / "a", encoded(RGB, format=name, exif=block))
        np.testing.assert_array_equal(read_image(path), turned(RGB, orientation))
    mask = RGB[..., 0] > 127
    path = written(tmp_path / "m", encoded(mask * np.uint8(255), format="PNG", exif=block))
    np.testing.assert_array_equal(read_mask(path), turned(mask, orientation))
    expected = turned(to_8_bits(DEEP), orientation)
    path = written(tmp_path / "d", deep_png(DEEP, colour=2, exif=block.removeprefix(b"Exif\0\0")))
    np.testing.assert_array_equal(read_image(path), expected)
    tag = [(274, 3, 1, orientation, True)]
    tifffile.imwrite(tmp_path / "d.tif", DEEP, photometric="rgb", extratags=tag)
    np.testing.assert_array_equal(read_image(tmp_path / "d.tif"), expected)


# --- bad images -----------------------------------------------------------------------------


def test_missing_folder_empty_and_text(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no\.png: expected an image file, found nothing there"):
        read_image(tmp_path / "no.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageError, match=r"folder\.png: .* found a folder; name one file"):
        read_image(tmp_path / "folder.png")
    with pytest.raises(ImageError, match=r"an empty file \(0 bytes\).*copy it again"):
        read_image(written(tmp_path / "zero.png", b""))
    with pytest.raises(ImageError, match=r"expected PNG, JPEG.*begins with b'hello'; .*convert it"):
        read_image(written(tmp_path / "text.png", b"hello"))
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(tmp_path / "pipe.png")


def test_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.png", encoded(RGB, format="PNG"))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match="the permission was refused; give this user the right"):
        read_image(path)


@pytest.mark.parametrize("name", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_files_cut_off_are_refused(tmp_path: Path, name: str, share: float) -> None:
    large = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(large, format=name)
    path = written(tmp_path / "a.png", data[: int(share * len(data))])
    with pytest.raises(ImageError, match=r"cut off or damaged|damaged or unsupported header"):
        read_image(path)


@pytest.mark.parametrize("lost", [8, 12])
def test_a_png_without_its_end_is_refused(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "a.png"
    Pillow.fromarray(np.full((8, 9), 77, np.uint8)).save(path)
    assert read_image(path).shape == (8, 9, 3)
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(ImageError, match="its end marker is missing; the file is cut off"):
        read_image(path)


def test_a_cut_jpeg_is_refused_where_opencv_fills_it(tmp_path: Path) -> None:
    large = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(large, format="JPEG")
    path = written(tmp_path / "a.jpg", data[: len(data) // 2])
    message = r"expected a whole JPEG image of 64 x 64 .*could not decode it \(.*truncated"
    with pytest.raises(ImageError, match=message):
        read_image(path)


def test_a_huge_header_is_refused_before_decoding(tmp_path: Path) -> None:
    path = written(tmp_path / "a.png", png_header(30_000, 30_000) + chunk(b"IDAT", b""))
    message = r"expected 1 to 100,000,000 pixels, its header declares 30,000 x 30,000 .*900,000,000"
    with pytest.raises(ImageError, match=message):
        read_image(path)
    small = written(tmp_path / "b.png", encoded(RGB, format="PNG"))
    assert read_image(small, max_pixels=35).shape == (5, 7, 3)
    with pytest.raises(ImageError, match=r"1 to 34 pixels, its header declares 7 x 5"):
        read_image(small, max_pixels=34)


@pytest.mark.parametrize("name", ["TIFF", "WEBP", "PNG"])
def test_several_pages_are_refused(tmp_path: Path, name: str) -> None:
    pages = [Pillow.fromarray(RGB), Pillow.fromarray(RGB[::-1].copy())]
    path = tmp_path / "a.bin"
    pages[0].save(path, format=name, save_all=True, append_images=pages[1:])
    with pytest.raises(ImageError, match="expected one picture, found 2 pages or frames"):
        read_image(path)


def test_values_without_an_agreed_scale_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for dtype in (np.float32, np.int16, np.uint32):
        tifffile.imwrite(path, np.zeros((4, 5), dtype=dtype))
        with pytest.raises(ImageError, match=r"unsigned bits, found mode .*convert it on a scale"):
            read_image(path)
    Pillow.fromarray(RGB).convert("CMYK").save(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="found mode CMYK"):
        read_image(tmp_path / "a.jpg")
    planes = np.moveaxis(DEEP, -1, 0)
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(ImageError, match="16 planar bits"):
        read_image(path)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["PNG", "JPEG", "BMP", "WEBP", "TIFF"]),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=5),
)
def test_damaged_bytes_give_an_image_or_an_image_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(encoded(RGB, format=name))
    for place, value in changes:
        data[place % len(data)] = value
    path = written(tmp_path_factory.mktemp("damaged") / "a", bytes(data))
    with contextlib.suppress(ImageError):
        image = read_image(path)
        assert image.dtype == np.uint8
        assert image.shape[2] == 3


# --- masks ----------------------------------------------------------------------------------


def save_mask(path: Path, values: list[int], dtype: type = np.uint8) -> Path:
    Pillow.fromarray(np.array([values], dtype=dtype)).save(path)
    return path


def save_palette(path: Path, indexes: list[int], palette: list[int]) -> Path:
    image = Pillow.frombytes("P", (len(indexes), 1), bytes(indexes))
    image.putpalette(palette)
    image.save(path)
    return path


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0, 127, 128, 255], np.uint8, [0, 0, 1, 1]),
        ([0, 1, 1, 0], np.uint8, [0, 1, 1, 0]),  # binary 0/1
        ([0, 0, 0, 0], np.uint8, [0, 0, 0, 0]),
        ([0, 32767, 32768, 65535], np.uint16, [0, 0, 1, 1]),
        ([0, 1, 0, 0], np.uint16, [0, 1, 0, 0]),
        ([0, 1, 0, 1], np.bool_, [0, 1, 0, 1]),
    ],
)
def test_gray_masks(tmp_path: Path, values: list[int], dtype: type, expected: list[int]) -> None:
    mask = read_mask(save_mask(tmp_path / "m.png", values, dtype), size=(1, 4))
    assert mask.dtype == np.bool_
    assert mask[0].tolist() == [bool(value) for value in expected]


@pytest.mark.parametrize(
    ("values", "dtype", "white"),
    [([0, 1, 2, 3], np.uint8, 255), ([0, 127], np.uint8, 255), ([0, 255], np.uint16, 65535)],
)
def test_masks_that_would_come_out_empty_are_refused(
    tmp_path: Path, values: list[int], dtype: type, white: int
) -> None:
    message = rf"found no value above {max(values)} .*save \(labels > 0\) \* {white}"
    with pytest.raises(MaskError, match=message):
        read_mask(save_mask(tmp_path / "m.png", values, dtype))


def test_colour_masks_go_by_luminance_and_guesses_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    white_and_green = np.array([[[0, 0, 0], [255, 255, 255], [0, 255, 0]]], dtype=np.uint8)
    Pillow.fromarray(white_and_green).save(path)
    assert read_mask(path)[0].tolist() == [False, True, True]
    white_and_red = white_and_green.copy()
    white_and_red[0, 2] = (255, 0, 0)
    Pillow.fromarray(white_and_red).save(path)
    with pytest.raises(MaskError, match="bright colours whose luminance is that of background"):
        read_mask(path)
    Pillow.fromarray(np.array([[[255] * 4, [255, 255, 255, 0]]], dtype=np.uint8)).save(path)
    with pytest.raises(MaskError, match="found a shape in its alpha channel; flatten it"):
        read_mask(path)
    Pillow.fromarray(np.array([[[255] * 4, [0, 0, 0, 255]]], dtype=np.uint8)).save(path)
    assert read_mask(path)[0].tolist() == [True, False]


def test_palette_masks(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    # Pascal VOC colours: black background, then dark red, dark green
    voc = [0, 0, 0, 128, 0, 0, 0, 128, 0]
    assert read_mask(save_palette(path, [0, 1, 2], voc))[0].tolist() == [False, True, True]
    # black and white in any order, as PNG optimisers write them
    assert read_mask(save_palette(path, [0, 1], [255] * 3 + [0] * 3))[0].tolist() == [True, False]
    # a ramp of grays goes by the gray, as an antialiased mask does
    ramp = [0, 0, 0, 100, 100, 100, 255, 255, 255]
    assert read_mask(save_palette(path, [0, 1, 2], ramp))[0].tolist() == [False, False, True]
    with pytest.raises(
        MaskError, match=r"black at index 0 .* found \(255, 0, 0\); save it as gray"
    ):
        read_mask(save_palette(path, [0, 1], [255, 0, 0, 0, 0, 0]))


def test_a_jpeg_mask_keeps_no_zeros_and_ones(tmp_path: Path) -> None:
    path = tmp_path / "m.jpg"
    Pillow.fromarray(np.full((8, 8), 1, dtype=np.uint8)).save(path)
    with pytest.raises(MaskError, match="found no value above 1"):
        read_mask(path)
    Pillow.fromarray(np.full((8, 8), 255, dtype=np.uint8)).save(path)
    assert read_mask(path).all()


def test_mask_size_and_file_errors(tmp_path: Path) -> None:
    path = save_mask(tmp_path / "m.png", [0, 255, 0])
    with pytest.raises(MaskError, match=r"its image, 4 x 5 .*found 1 x 3; masks are not resized"):
        read_mask(path, size=(4, 5))
    with pytest.raises(MaskError, match="found 1 x 3; it looks turned by 90 degrees"):
        read_mask(path, size=(3, 1))
    with pytest.raises(MaskError, match=r"mask .*no\.png: expected an image file, found nothing"):
        read_mask(tmp_path / "no.png")


# --- samples and folders --------------------------------------------------------------------


def test_read_sample(tmp_path: Path) -> None:
    image = written(tmp_path / "a.png", encoded(RGB, format="PNG"))
    marks = np.zeros((5, 7), dtype=np.uint8)
    marks[1, 2] = 255
    mask = written(tmp_path / "a_mask.png", encoded(marks, format="PNG"))
    good = ImageRecord(image, "bolt", "test", "good")
    sample = read_sample(good)
    assert sample.mask.shape == (5, 7)
    assert not sample.mask.any()
    assert sample.record is good
    cut = read_sample(ImageRecord(image, "bolt", "test", "cut", mask))
    assert np.argwhere(cut.mask).tolist() == [[1, 2]]
    with pytest.raises(MaskError, match="expected a mask for an image labelled 'cut', found none"):
        read_sample(ImageRecord(image, "bolt", "test", "cut"))
    empty = written(tmp_path / "e.png", encoded(marks * 0, format="PNG"))
    with pytest.raises(MaskError, match="pixels of a defect 'cut', found none marked; redraw"):
        read_sample(ImageRecord(image, "bolt", "test", "cut", empty))
    small = written(tmp_path / "s.png", encoded(marks[:4], format="PNG"))
    with pytest.raises(MaskError, match=r"5 x 7 .*found 4 x 7"):
        read_sample(ImageRecord(image, "bolt", "test", "cut", small))


def test_image_files(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.tiff", ".a.png", "c.txt", "d.JpEg"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in image_files(tmp_path)] == ["a.tiff", "b.PNG", "d.JpEg"]
    with pytest.raises(ImageError, match="expected a folder of images, found nothing"):
        image_files(tmp_path / "no")
    with pytest.raises(ImageError, match="expected a folder of images, found a file"):
        image_files(tmp_path / "c.txt")
