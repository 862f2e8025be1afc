"""Score maps of labelled images, by category."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anomaly_u2net.errors import ImageError
from anomaly_u2net.evaluation.predictions import by_category, predict_records
from anomaly_u2net.inference.bundle import ModelSpec
from anomaly_u2net.inference.segmenter import Segmenter
from anomaly_u2net.recipe import Recipe
from anomaly_u2net.types import ImageRecord


def segmenter(image_score: str = "max") -> Segmenter:
    """Logits are the red channel as it arrives, normalised: brighter is more defective."""
    recipe = Recipe.from_dict(
        {
            "name": "r",
            "input": {"fit": "stretch", "size": 32},
            "score": {"image_score": image_score},
        }
    )
    spec = ModelSpec(
        name="r", model=recipe.model, input=recipe.input, score=recipe.score,
        recipe_hash=recipe.digest, files={},
    )  # fmt: skip
    return Segmenter(lambda batch: batch[:, :1], spec)


def record(path: Path, category: str, mask: Path | None = None) -> ImageRecord:
    return ImageRecord(path, category, "test", "spot" if mask else "good", mask)


def test_sizes_are_the_originals(tmp_path: Path, write_png) -> None:
    for name, size in (("b", (20, 30)), ("a", (64, 48)), ("c", (7, 5))):
        write_png(np.zeros(size, np.uint8), tmp_path / f"{name}.png")
    mask = np.zeros((64, 48), np.uint8)
    mask[10:20, 5:9] = 255
    write_png(mask, tmp_path / "mask.png")
    records = [
        record(tmp_path / "b.png", "tile"),
        record(tmp_path / "a.png", "brick", tmp_path / "mask.png"),
        record(tmp_path / "c.png", "tile"),
    ]
    found = predict_records(segmenter(), iter(records))
    assert found.records == records
    assert [m.shape for m in found.maps] == [(20, 30), (64, 48), (7, 5)]
    assert [m.shape for m in found.masks] == [(20, 30), (64, 48), (7, 5)]
    assert [int(m.sum()) for m in found.masks] == [0, 40, 0]
    assert found.defective == [False, True, False]
    assert list(by_category(iter(records))) == [
        ("brick", [records[1]]), ("tile", [records[0], records[2]]),
    ]  # fmt: skip


def test_the_image_score_is_the_one_of_the_recipe(tmp_path: Path, write_png) -> None:
    pixels = np.zeros((32, 32), np.uint8)
    pixels[3, 4] = 255
    write_png(pixels, tmp_path / "a.png")
    records = [record(tmp_path / "a.png", "tile")]
    (high,) = predict_records(segmenter("max"), records).scores
    (mean,) = predict_records(segmenter("topk_mean"), records).scores
    (area,) = predict_records(segmenter("area_above:0.5"), records).scores
    assert area == 1 / 1024
    brightest, black = (1 / (1 + np.exp((m - v) / 0.229)) for m, v in ((0.485, 1), (0.485, 0)))
    assert high == pytest.approx(brightest, rel=1e-5)
    assert mean == pytest.approx((brightest + black) / 2, rel=1e-5)  # the 2 of 1024 pixels


def test_a_file_that_is_no_image_ends_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(ImageError, match=r"a.png"):
        predict_records(segmenter(), [record(tmp_path / "a.png", "tile")])
