"""Decoding one image file, its content checked before its pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from anomaly_u2net.errors import ImageError

MAX_PIXELS = 100_000_000
_FORMATS = "PNG, JPEG, TIFF, BMP or WebP"
_SIGNATURES: tuple[tuple[bytes, Callable[[BinaryIO], ImageFile]], ...] = (
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    (b"\xff\xd8\xff", JpegImageFile),
    (b"II*\x00", TiffImageFile),
    (b"MM\x00*", TiffImageFile),
    (b"II+\x00", TiffImageFile),
    (b"MM\x00+", TiffImageFile),
    (b"BM", BmpImageFile),
    (b"RIFF", WebPImageFile),
)
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_PLANAR, _TIFF_SAMPLE_FORMAT = 258, 262, 284, 339
_ORIENTATION = 0x0112
# EXIF orientation → what turns the stored pixels upright (EXIF 2.32, tag 0x0112).
_TURN: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}


@dataclass(frozen=True, slots=True)
class Pixels:
    """A decoded file before it is made an image or a mask, orientation applied.

    values: bool, uint8 or uint16, (H, W) or (H, W, 3); with a palette (256, 3) they are indexes.
    alpha: (H, W) or None. lossy: the format alters values (JPEG, WebP).
    """

    values: NDArray[Any]
    alpha: NDArray[Any] | None
    palette: NDArray[np.uint8] | None
    lossy: bool


def decode(path: Path, max_pixels: int) -> Pixels:
    try:
        if path.exists() and not path.is_file():
            found = "a folder" if path.is_dir() else "something that is not a regular file"
            raise ImageError(f"{path}: expected an image file, found {found}; name one file")
        with path.open("rb") as file:
            return _decode_open(path, file, max_pixels)
    except FileNotFoundError as error:
        raise ImageError(
            f"{path}: expected an image file, found nothing there; check the path"
        ) from error
    except PermissionError as error:
        raise ImageError(
            f"{path}: expected a readable image file, the permission was refused; "
            "give this user the right to read it"
        ) from error


def _decode_open(path: Path, file: BinaryIO, max_pixels: int) -> Pixels:
    image, bits = _open(path, file, max_pixels)
    try:
        image.load()
        orientation = image.getexif().get(_ORIENTATION, 1)
        upright = ImageOps.exif_transpose(image)
    # Pillow's decoders raise many kinds of error on damaged bytes.
    except Exception as error:
        raise ImageError(
            f"{path}: expected a whole {image.format} image of {image.width} x {image.height} "
            f"pixels (width x height), could not decode it ({error}); the file is cut off or "
            "damaged: copy it again from its source"
        ) from error
    if image.format == "PNG":
        _check_png_end(path, file)
    values = np.asarray(upright)
    if bits == 16:
        if values.ndim == 3:
            values = _deep_colour(path, file, values, orientation)
        values = values.astype(np.uint16)
        if isinstance(image, TiffImageFile) and image.tag_v2.get(_TIFF_PHOTOMETRIC) == 0:
            values = np.uint16(65535) - values
    alpha = None
    if upright.mode in ("LA", "PA", "RGBA"):
        values, alpha = values[..., :-1], values[..., -1]
        values = values[..., 0] if values.shape[2] == 1 else values
    palette = None
    if upright.mode in ("P", "PA"):
        palette = np.zeros((256, 3), dtype=np.uint8)
        colours = np.array(upright.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
        palette[: len(colours)] = colours
    return Pixels(values, alpha, palette, lossy=image.format in ("JPEG", "WEBP"))


def _check_png_end(path: Path, file: BinaryIO) -> None:
    """Pillow does not miss the last bytes of a PNG; a file without its end was cut off."""
    file.seek(0)
    if b"IEND" not in file.read():
        raise ImageError(
            f"{path}: expected a whole PNG, its end marker is missing; the file is cut off: "
            "copy it again from its source"
        )


def _open(path: Path, file: BinaryIO, max_pixels: int) -> tuple[ImageFile, int]:
    """Read and check the header: the image, not yet decoded, and its bits per sample."""
    head = file.read(32)
    if not head:
        raise ImageError(
            f"{path}: expected an image, found an empty file (0 bytes); "
            "it was probably cut off while it was copied: copy it again"
        )
    opener = next((opener for start, opener in _SIGNATURES if head.startswith(start)), None)
    if opener is None:
        raise ImageError(
            f"{path}: expected {_FORMATS}, found a file that begins with {head[:16]!r}; "
            "it is no image of these formats, whatever its name says: convert it or leave it out"
        )
    file.seek(0)
    try:
        image = opener(file)
        frames = 1 if isinstance(image, JpegImageFile) else getattr(image, "n_frames", 1)
    except Exception as error:
        raise ImageError(
            f"{path}: expected {_FORMATS}, found a damaged or unsupported header ({error}); "
            "copy the file again from its source, or convert it"
        ) from error
    width, height = image.size
    if width * height > max_pixels or not width * height:
        raise ImageError(
            f"{path}: expected 1 to {max_pixels:,} pixels, its header declares {width:,} x "
            f"{height:,} (width x height) = {width * height:,}; if that is its real size, cut it "
            "into tiles or raise max_pixels"
        )
    if frames > 1:
        raise ImageError(
            f"{path}: expected one picture, found {frames} pages or frames in one file; "
            "save each as its own file"
        )
    return image, _bits(path, image, head)


def _bits(path: Path, image: ImageFile, head: bytes) -> int:
    """Bits per sample; ``ImageError`` where the values have no agreed scale to 8 bits."""
    bits, kind = 8, "unsigned"
    if isinstance(image, PngImageFile):
        bits = head[24]
    elif isinstance(image, TiffImageFile):
        bits = max(image.tag_v2.get(_TIFF_BITS, (1,)))
        if set(image.tag_v2.get(_TIFF_SAMPLE_FORMAT, (1,))) != {1}:
            kind = "signed or float"
        elif bits == 16 and image.tag_v2.get(_TIFF_PLANAR) == 2:
            kind = "planar"  # Pillow and OpenCV mix up its channels
    modes = ("I", "I;16", "I;16B", "I;16L", "RGB", "RGBA") if bits == 16 else _MODES
    if kind != "unsigned" or bits not in (1, 2, 4, 8, 16) or image.mode not in modes:
        raise ImageError(
            f"{path}: expected gray, palette or RGB(A) with 8 or 16 unsigned bits, found mode "
            f"{image.mode} with {bits} {kind} bits; convert it on a scale you choose, to 8-bit PNG"
        )
    return bits


def _deep_colour(
    path: Path, file: BinaryIO, upright: NDArray[np.uint8], orientation: int
) -> NDArray[np.uint16]:
    """All 16 bits of a colour image of which Pillow kept the upper 8, ``upright``."""
    file.seek(0)
    data = np.frombuffer(file.read(), dtype=np.uint8)
    deep = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    channels = upright.shape[2]
    if deep is not None and deep.dtype == np.uint16 and deep.ndim == 3:
        deep = deep[..., [2, 1, 0, 3][:channels]] if deep.shape[2] >= channels else deep
        if data[0] == 0x89:  # OpenCV turns a TIFF upright by itself, a PNG not
            deep = _TURN[orientation](deep)
        values = deep.astype(np.uint16)
        if np.array_equal(values >> 8, upright):
            return values
    raise ImageError(
        f"{path}: expected a 16-bit colour image that Pillow and OpenCV read alike, found one "
        "that they do not; convert it to 8-bit PNG"
    )
