"""The one way to read an image and its mask.

Pillow decodes, because it refuses files that are cut off, where OpenCV fills them with grey.
OpenCV gives the values only where Pillow keeps 8 of 16 bits: 16-bit colour. The content decides
the format, never the extension, and the header is checked before a pixel is decoded.
"""

from __future__ import annotations

import os
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

from anomaly_u2net.errors import ImageError, MaskError
from anomaly_u2net.types import Image, ImageRecord, Mask, Sample

EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
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
# ITU-R BT.601 luminance, as Pillow and OpenCV use it.
_LUMINANCE = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, slots=True)
class _Pixels:
    """A decoded file before it is made an image or a mask, orientation applied.

    values: bool, uint8 or uint16, (H, W) or (H, W, 3); with a palette (256, 3) they are indexes.
    alpha: (H, W) or None. lossy: the format alters values (JPEG, WebP).
    """

    values: NDArray[Any]
    alpha: NDArray[Any] | None
    palette: NDArray[np.uint8] | None
    lossy: bool


def image_files(folder: str | Path) -> list[Path]:
    """The image files directly in ``folder``, by extension (any case), sorted by name.

    Hidden files (``.name``) and folders are left out. Raises ``ImageError`` when ``folder`` is
    not a folder.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("b.JPG", "a.png", ".hidden.png", "notes.txt"):
    ...     (folder / name).touch()
    >>> [path.name for path in image_files(folder)]
    ['a.png', 'b.JPG']
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise ImageError(f"{folder}: expected a folder of images, found {found}; check the path")
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.is_dir()]
    return [
        folder / name
        for name in sorted(names)
        if not name.startswith(".") and name.lower().endswith(EXTENSIONS)
    ]


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Read an image as uint8 (H, W, 3) RGB, its EXIF orientation applied.

    PNG, JPEG, TIFF, BMP and WebP; 1-bit, gray, palette and colour; 8 and 16 bits. 16-bit values
    go to 8 bits on one absolute scale, ``round(v / 257)``, never by the image's own range. An
    alpha channel is dropped; colour profiles and gamma are not applied. Of a JPEG with several
    pictures (MPO) the first is read; other files with several pages are refused.

    Raises ``ImageError``: missing, not a file, empty, not permitted, not an image, cut off or
    damaged, several pages, an unsupported mode (CMYK, float, signed, 12 or 32 bits), or more
    than ``max_pixels`` (width × height) in its header, which costs no memory.

    >>> import tempfile
    >>> from PIL import Image as Pillow
    >>> path = Path(tempfile.mkdtemp()) / "deep.png"
    >>> Pillow.fromarray(np.array([[0, 257, 65535]], dtype=np.uint16)).save(path)
    >>> read_image(path)[..., 0].tolist()
    [[0, 1, 255]]
    """
    pixels = _decode(Path(path), max_pixels)
    values = pixels.values if pixels.palette is None else pixels.palette[pixels.values]
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * np.uint8(255)
    elif values.dtype == np.uint16:
        values = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=2)
    return np.array(values, dtype=np.uint8, order="C")


def read_mask(
    path: str | Path, *, size: tuple[int, int] | None = None, max_pixels: int = MAX_PIXELS
) -> Mask:
    """Read a mask as bool (H, W), true where the part is defective, orientation applied.

    - gray, or colour by its luminance: ``v > 127``; in 16 bits ``round(v / 257) > 127``
    - a lossless mask whose only values are 0 and 1 is taken as binary: 1 is a defect
    - 1-bit: white is a defect
    - a palette of grays: by the gray; a coloured palette (label colours, as in Pascal VOC) with
      black at index 0: every other index is a defect

    Whatever could only be guessed raises ``MaskError``, so that no mask is silently empty or
    full: marks of at most 127 and not {0, 1} (label numbers), bright colours that luminance
    calls background, a coloured palette without black at 0, a shape in the alpha channel. So do
    a file that cannot be read and, when ``size`` (H, W) is given, another size.

    >>> import tempfile
    >>> from PIL import Image as Pillow
    >>> path = Path(tempfile.mkdtemp()) / "mask.png"
    >>> Pillow.fromarray(np.array([[0, 127, 128, 255]], dtype=np.uint8)).save(path)
    >>> read_mask(path, size=(1, 4)).tolist()
    [[False, False, True, True]]
    """
    path = Path(path)
    try:
        pixels = _decode(path, max_pixels)
    except ImageError as error:
        raise MaskError(f"mask {error}") from error
    mask = _binary(path, pixels)
    if size is not None and mask.shape != tuple(size):
        turned = "; it looks turned by 90 degrees" if mask.shape == tuple(size)[::-1] else ""
        raise MaskError(
            f"mask {path}: expected the size of its image, {size[0]} x {size[1]} (height x width), "
            f"found {mask.shape[0]} x {mask.shape[1]}{turned}; masks are not resized: export it "
            "again at the size of the image"
        )
    return mask


def read_sample(record: ImageRecord, *, max_pixels: int = MAX_PIXELS) -> Sample:
    """Read the image of ``record`` and its mask, all false for a good image.

    Raises ``ImageError``, and ``MaskError`` for a defect image whose mask is missing, has
    another size, or marks no pixel.
    """
    image = read_image(record.path, max_pixels=max_pixels)
    if not record.defective:
        return Sample(image, np.zeros(image.shape[:2], dtype=np.bool_), record)
    if record.mask is None:
        raise MaskError(
            f"{record.path}: expected a mask for an image labelled {record.label!r}, found none; "
            "add the mask, or label the image 'good'"
        )
    mask = read_mask(record.mask, size=image.shape[:2], max_pixels=max_pixels)
    if not mask.any():
        raise MaskError(
            f"mask {record.mask}: expected the pixels of a defect {record.label!r}, found none "
            f"marked; redraw it, or move {record.path.name} to the good images"
        )
    return Sample(image, mask, record)


def _binary(path: Path, pixels: _Pixels) -> Mask:
    """The rules of ``read_mask``."""
    if pixels.alpha is not None and (pixels.alpha != pixels.alpha.flat[0]).any():
        raise MaskError(
            f"mask {path}: expected one opaque layer, found a shape in its alpha channel; "
            "flatten it to gray, defects white (255) on black (0)"
        )
    values = pixels.values
    if values.dtype == np.bool_:
        return values.copy()
    if pixels.palette is not None:
        used = pixels.palette[np.unique(values)]
        if (used != used[:, :1]).any():
            if pixels.palette[0].any():
                raise MaskError(
                    f"mask {path}: expected black at index 0 of its coloured palette, found "
                    f"{tuple(pixels.palette[0].tolist())}; save it as gray, defects white (255) "
                    "on black (0)"
                )
            return values > 0
        values = pixels.palette[values][..., 0]
    # round(v / 257) > 127 in 16 bits
    threshold, white = (32767, 65535) if values.dtype == np.uint16 else (127, 255)
    if values.ndim == 3:
        brightest = values.max(axis=2)
        values = np.rint(values @ _LUMINANCE)
        if ((brightest > threshold) & (values <= threshold)).any():
            raise MaskError(
                f"mask {path}: expected defects white (255) on black (0), found bright colours "
                "whose luminance is that of background; save it as gray"
            )
    peak = int(values.max())
    if peak == 1 and not pixels.lossy:
        return values > 0
    if 0 < peak <= threshold:
        raise MaskError(
            f"mask {path}: expected defects white ({white}) on black (0), found no value above "
            f"{peak} (a defect is > {threshold}); if these are label numbers, save "
            f"(labels > 0) * {white}"
        )
    return values > threshold


def _decode(path: Path, max_pixels: int) -> _Pixels:
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


def _decode_open(path: Path, file: BinaryIO, max_pixels: int) -> _Pixels:
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
    return _Pixels(values, alpha, palette, lossy=image.format in ("JPEG", "WEBP"))


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
