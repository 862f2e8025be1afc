"""One picture that explains one image: what came in, the scores, and what was found."""

from __future__ import annotations

import math

import cv2
import numpy as np

from anomaly_u2net.types import Image, Mask, ScoreMap
from anomaly_u2net.visual.checks import (
    check_finite,
    check_fits,
    check_image,
    check_mask_fits,
    check_score_map,
)
from anomaly_u2net.visual.overlay import (
    PREDICTED,
    TRUE,
    Colour,
    heat_colours,
    heatmap,
    outline,
    overlay,
)

#: The longer side of a view, in pixels: smaller images are magnified, larger ones shrunk.
_SMALLEST, _LARGEST = 384, 768
#: No view is narrower than its caption.
_NARROWEST = 240

_PAPER: Colour = (28, 30, 34)
_INK: Colour = (232, 232, 232)
_FAINT: Colour = (150, 154, 160)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def panel(
    image: Image,
    score_map: ScoreMap,
    *,
    threshold: float,
    mask: Mask | None = None,
    title: str = "",
) -> Image:
    """Image, heatmap and overlay in one picture, with the colour scale and a key, uint8 (h, w, 3).

    image: uint8 (H, W, 3). score_map: float (H, W) in 0..1. mask: bool (H, W), outlined where
    given. title: one line; characters besides ASCII become "?", what does not fit is cut.

    The views stand side by side, or below each other when the image is more than twice as wide as
    high. Small images are magnified in whole steps, large ones shrunk, to a longer side of
    384 to 768 pixels. Raises as `overlay` does.

    >>> picture = panel(np.zeros((32, 48, 3), np.uint8), np.zeros((32, 48)), threshold=0.5)
    >>> picture.shape[1] > 3 * 384, picture.dtype
    (True, dtype('uint8'))
    """
    base = check_image(image)
    scores = check_score_map(score_map)
    limit = check_finite(threshold)
    truth = check_mask_fits(mask, image=base)
    check_fits("the map", scores.shape, image=base)

    times = max(1, math.ceil(_SMALLEST / max(base.shape[:2])))
    large = _magnify(base, times)
    large_map = _magnify(scores, times)
    large_mask = None if truth is None else _magnify(truth, times)
    views = [
        ("image", large if large_mask is None else outline(large, [(large_mask, TRUE)])),
        (f"score, highest {_number(float(scores.max()))}", heatmap(large_map, threshold=limit)),
        ("overlay", overlay(large, large_map, threshold=limit, mask=large_mask)),
    ]
    size = max(0.65, min(1.0, max(large.shape[:2]) / 768))
    body = _arrange([_captioned(view, caption, size=size) for caption, view in views], size=size)
    width = body.shape[1]
    rows = [
        *([_line(title, width=width, size=1.25 * size)] if title else []),
        body,
        _scale(width, threshold=limit, size=size),
        _key(width, known=truth is not None, size=size),
    ]
    return _frame(np.vstack(rows), margin=round(24 * size))


def _magnify(plane: np.ndarray, times: int) -> np.ndarray:
    return plane.repeat(times, axis=0).repeat(times, axis=1) if times > 1 else plane


def _captioned(view: Image, caption: str, *, size: float) -> Image:
    """A view, shrunk when it is large, on paper at least _NARROWEST wide, with its caption above."""
    scale = min(1.0, _LARGEST / max(view.shape[:2]))
    if scale < 1.0:
        height, width = (max(1, round(side * scale)) for side in view.shape[:2])
        view = np.asarray(cv2.resize(view, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    width = max(_NARROWEST, view.shape[1])
    beside = _paper(view.shape[0], width - view.shape[1])
    caption_line = _line(caption, width=width, size=size, colour=_FAINT)
    return np.vstack([caption_line, np.hstack([view, beside])])


def _arrange(views: list[Image], *, size: float) -> Image:
    """The views side by side, or below each other when they are wide, with gaps between."""
    gap = round(20 * size)
    height, width = views[0].shape[:2]
    stacked = width > 2 * height
    space = _paper(gap, width) if stacked else _paper(height, gap)
    join = np.vstack if stacked else np.hstack
    return join([views[0], space, views[1], space, views[2]])


def _scale(width: int, *, threshold: float, size: float) -> Image:
    """The colour bar from score 0 to 1 with the threshold in its middle, and its labels."""
    bar_height, length = round(14 * size), min(width, round(640 * size))
    top = round(22 * size)
    canvas = _paper(top + bar_height + round(34 * size), width)
    bar = heat_colours(np.linspace(0.0, 1.0, length)[None].repeat(bar_height, axis=0))
    canvas[top : top + bar_height, :length] = bar
    middle, baseline = length // 2, canvas.shape[0] - round(10 * size)
    tick = max(1, round(1.5 * size))
    canvas[top - 4 : top + bar_height + 4, middle - tick : middle + tick] = PREDICTED
    cv2.rectangle(canvas, (0, top), (length - 1, top + bar_height - 1), _FAINT, 1)
    _write(canvas, "0", x=0, baseline=baseline, size=size)
    _write(canvas, "1", x=length, baseline=baseline, size=size, anchor=1.0)
    label = f"threshold {_number(threshold)}"
    _write(canvas, label, x=middle, baseline=baseline, size=size, anchor=0.5)
    return canvas


def _key(width: int, *, known: bool, size: float) -> Image:
    """What the contours mean; the truth only where it is known."""
    canvas = _paper(round(30 * size), width)
    baseline, x = canvas.shape[0] - round(8 * size), 0
    entries = [(PREDICTED, "predicted"), (TRUE, "true defect")][: 2 if known else 1]
    for colour, label in entries:
        level, dash = baseline - round(7 * size), round(28 * size)
        cv2.line(canvas, (x, level), (x + dash, level), colour, max(2, round(3 * size)))
        x += dash + round(10 * size)
        x += _write(canvas, label, x=x, baseline=baseline, size=size) + round(30 * size)
    return canvas


def _line(text: str, *, width: int, size: float, colour: Colour = _INK) -> Image:
    """One line of ASCII text on paper, cut with dots when it is wider than ``width`` pixels."""
    shown = text.encode("ascii", "replace").decode()
    shown = "".join(letter if letter.isprintable() else "?" for letter in shown)
    while shown.rstrip(".") and _text_width(shown, size=size) > width:
        shown = shown.rstrip(".")[:-1] + "..."
    canvas = _paper(round(38 * size), width)
    baseline = canvas.shape[0] - round(12 * size)
    _write(canvas, shown, x=0, baseline=baseline, size=size, colour=colour)
    return canvas


def _write(
    canvas: Image,
    text: str,
    *,
    x: int,
    baseline: int,
    size: float,
    anchor: float = 0.0,
    colour: Colour = _INK,
) -> int:
    """Write onto ``canvas``, ``anchor`` of the text's width left of ``x``; return that width."""
    width = _text_width(text, size=size)
    where = (round(x - anchor * width), baseline)
    cv2.putText(canvas, text, where, _FONT, 0.75 * size, colour, 1, cv2.LINE_AA)
    return width


def _text_width(text: str, *, size: float) -> int:
    return int(cv2.getTextSize(text, _FONT, 0.75 * size, 1)[0][0])


def _frame(picture: Image, *, margin: int) -> Image:
    framed = cv2.copyMakeBorder(
        picture, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=_PAPER
    )
    return np.asarray(framed, np.uint8)


def _paper(height: int, width: int) -> Image:
    return np.full((height, width, 3), _PAPER, np.uint8)


def _number(value: float) -> str:
    """Four digits: enough to tell two thresholds apart by eye."""
    return f"{value:.4g}"
