"""The one way to read an image and its mask.

Pillow decodes, because it refuses files that are cut off, where OpenCV fills them with grey.
OpenCV gives the values only where Pillow keeps 8 of 16 bits: 16-bit colour. The content decides
the format, never the extension, and the header is checked before a pixel is decoded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.data.decode import MAX_PIXELS as MAX_PIXELS
from anomaly_u2net.data.decode import Pixels, decode
from anomaly_u2net.errors import ImageError, MaskError
from anomaly_u2net.types import Image, ImageRecord, Mask, MaskValues, Sample

EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# ITU-R BT.601 luminance, as Pillow and OpenCV use it.
_LUMINANCE = np.array([0.299, 0.587, 0.114])


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
    pixels = decode(Path(path), max_pixels)
    values = pixels.values if pixels.palette is None else pixels.palette[pixels.values]
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * np.uint8(255)
    elif values.dtype == np.uint16:
        values = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=2)
    return np.array(values, dtype=np.uint8, order="C")


def read_mask(
    path: str | Path,
    *,
    size: tuple[int, int] | None = None,
    values: MaskValues = "white",
    max_pixels: int = MAX_PIXELS,
) -> Mask:
    """Read a mask as bool (H, W), true where the part is defective, orientation applied.

    - gray, or colour by its luminance: ``v > 127``; in 16 bits ``round(v / 257) > 127``
    - a lossless mask whose only values are 0 and 1 is taken as binary: 1 is a defect
    - 1-bit: white is a defect
    - a palette of grays: by the gray; a coloured palette (label colours, as in Pascal VOC) with
      black at index 0: every other index is a defect

    With ``values="labels"`` the file holds label numbers, and all but 0 is a defect. Of a folder the
    masks in it count together.

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
    if path.is_dir():
        return _union(path, size=size, values=values, max_pixels=max_pixels)
    if values == "labels":
        mask = read_labels(path, max_pixels=max_pixels) > 0
    else:
        mask = _binary(path, _decode_mask(path, max_pixels))
    if size is not None and mask.shape != tuple(size):
        turned = "; it looks turned by 90 degrees" if mask.shape == tuple(size)[::-1] else ""
        raise MaskError(
            f"mask {path}: expected the size of its image, {size[0]} x {size[1]} (height x width), "
            f"found {mask.shape[0]} x {mask.shape[1]}{turned}; masks are not resized: export it "
            "again at the size of the image"
        )
    return mask


def read_labels(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> NDArray[Any]:
    """Read a mask of label numbers as they are: (H, W) of bool, uint8 or uint16.

    Of a palette the indexes. Raises ``MaskError`` for a file that cannot be read, is JPEG or
    WebP (whose values are not those that were written), or has colours instead of numbers.
    """
    path = Path(path)
    pixels = _decode_mask(path, max_pixels)
    if pixels.lossy or pixels.values.ndim != 2:
        found = "a lossy format" if pixels.lossy else "colours"
        raise MaskError(f"mask {path}: expected label numbers in one layer, found {found}")
    return pixels.values


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
    mask = read_mask(
        record.mask, size=image.shape[:2], values=record.mask_values, max_pixels=max_pixels
    )
    if not mask.any():
        raise MaskError(
            f"mask {record.mask}: expected the pixels of a defect {record.label!r}, found none "
            f"marked; redraw it, or move {record.path.name} to the good images"
        )
    return Sample(image, mask, record)


def _decode_mask(path: Path, max_pixels: int) -> Pixels:
    try:
        return decode(path, max_pixels)
    except ImageError as error:
        raise MaskError(f"mask {error}") from error


def _union(
    folder: Path, *, size: tuple[int, int] | None, values: MaskValues, max_pixels: int
) -> Mask:
    """What any mask in ``folder`` marks."""
    files = image_files(folder)
    if not files:
        raise MaskError(f"mask {folder}: expected mask files in this folder, found none")
    union = read_mask(files[0], size=size, values=values, max_pixels=max_pixels)
    for file in files[1:]:
        union = union | read_mask(file, size=union.shape, values=values, max_pixels=max_pixels)
    return union


def _binary(path: Path, pixels: Pixels) -> Mask:
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
