from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as Pillow

from anomaly_u2net.calibration import Calibration, CategoryThresholds, Threshold
from anomaly_u2net.errors import CalibrationError, ImageError, InputError, MapError, ModelFileError
from anomaly_u2net.inference.bundle import ModelSpec, write_spec
from anomaly_u2net.inference.segmenter import Segmenter, sigmoid
from anomaly_u2net.recipe import Recipe

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (50, 70, 3), dtype=np.uint8)


def described(**overrides: Any) -> ModelSpec:
    recipe = Recipe.from_dict({"name": "stub", **overrides})
    return ModelSpec(
        name="stub", model=recipe.model, input=recipe.input, score=recipe.score,
        recipe_hash=recipe.digest, files={},
    )  # fmt: skip


def red(batch: np.ndarray) -> np.ndarray:
    """A backend of numpy alone: the logit is twice the normalised red channel, minus 1."""
    return 2 * batch[:, :1] - 1


def calibrated(spec: ModelSpec, *names: str, image: float = 0.6, pixel: float = 0.5) -> Calibration:
    image_limit, pixel_limit = (
        Threshold(value, "false_reject", "At most 5 %.", 19, {"alpha": 0.05}, attained=0.05)
        for value in (image, pixel)
    )
    return Calibration(
        categories={name: CategoryThresholds(image_limit, pixel_limit) for name in names},
        model_hash=spec.digest,
        recipe_hash=spec.recipe_hash,
        split="calibration",
        images={name: {"good": 19, "defective": 0} for name in names},
    )


# --- the sigmoid ----------------------------------------------------------------------------


def test_sigmoid_at_its_ends() -> None:
    x = np.array([-np.inf, -100, -20, 0, 20, 100, np.inf], np.float32)
    y = sigmoid(x)
    assert y.dtype == np.float32
    assert y[[0, 3, 5, 6]].tolist() == [0, 0.5, 1, 1]
    # float32's smallest steps are 1.4e-45 there
    assert y[1] == np.float32(np.exp(-100.0))
    assert y[2] == pytest.approx(np.exp(-20.0) / (1 + np.exp(-20.0)), rel=1e-6)


@settings(deadline=None, max_examples=50)
@given(hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(-85, 85, width=32)))
def test_sigmoid_is_exact_monotone_and_symmetric(x: np.ndarray) -> None:
    y = sigmoid(x)
    np.testing.assert_allclose(y, 1 / (1 + np.exp(-x.astype(np.float64))), rtol=1e-6)
    assert y.min() >= 0
    assert y.max() <= 1
    order = np.argsort(x, kind="stable")
    steps = np.diff(y[order])
    assert (steps >= -3e-7 * y[order][1:]).all()
    np.testing.assert_allclose(y + sigmoid(-x), 1, rtol=2e-7)


# --- predicting -----------------------------------------------------------------------------


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "native"])
def test_the_road_by_hand(fit: str) -> None:
    overrides = {"augment": {"crop": 32}} if fit == "native" else {}
    spec = described(input={"fit": fit, "size": [64, 96]}, **overrides)
    result = Segmenter(red, spec).predict(PHOTO)
    if fit == "native":
        fitted = PHOTO
    else:
        size = (96, 64) if fit == "stretch" else (90, 64)
        fitted = cv2.resize(PHOTO, size, interpolation=cv2.INTER_LINEAR)
    normalised = (fitted[..., 0] / 255 - 0.485) / 0.229
    expected = 1 / (1 + np.exp(-(2 * normalised - 1)))
    if fit != "native":
        expected = cv2.resize(expected.astype(np.float32), (70, 50))
    assert result.shape == (50, 70)
    assert result.dtype == np.float32
    assert 0 <= result.min() < 0.1 < 0.9 < result.max() <= 1
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_the_backend_is_given_one_whole_canvas() -> None:
    seen: list[np.ndarray] = []

    def watch(batch: np.ndarray) -> np.ndarray:
        seen.append(batch)
        return red(batch)

    Segmenter(watch, described(input={"size": [64, 96]})).predict(PHOTO)
    (batch,) = seen
    assert batch.shape == (1, 3, 64, 96)
    assert batch.dtype == np.float32
    assert batch.flags.c_contiguous


def test_scores_are_absolute() -> None:
    """A part without defects stays near 0: a map is never stretched to its own range."""
    segmenter = Segmenter(red, described(input={"size": [64, 64]}))
    dim = np.full((64, 64, 3), 20, np.uint8)
    spot = dim.copy()
    spot[10, 10] = 255
    low = segmenter.predict(dim)
    assert low.max() == low.min() < 0.02
    both = segmenter.predict(spot)
    np.testing.assert_array_equal(np.delete(both.ravel(), 10 * 64 + 10), low.ravel()[1:])


def test_a_path_and_its_pixels_are_the_same(tmp_path: Path) -> None:
    Pillow.fromarray(PHOTO).save(tmp_path / "a.png")
    segmenter = Segmenter(red, described(input={"size": [64, 64]}))
    expected = segmenter.predict(PHOTO)
    np.testing.assert_array_equal(segmenter.predict(tmp_path / "a.png"), expected)
    np.testing.assert_array_equal(segmenter.predict(str(tmp_path / "a.png")), expected)
    with pytest.raises(ImageError):
        segmenter.predict(tmp_path / "gone.png")


@pytest.mark.parametrize("shape", [(1, 500), (3, 40), (1, 1), (333, 2)])
@pytest.mark.parametrize("fit", ["letterbox", "native", "stretch"])
def test_narrow_images(shape: tuple[int, int], fit: str) -> None:
    overrides = {"augment": {"crop": 32}} if fit == "native" else {}
    spec = described(input={"fit": fit, "size": [64, 64]}, **overrides)
    assert Segmenter(red, spec).predict(np.zeros((*shape, 3), np.uint8)).shape == shape


@pytest.mark.parametrize(("image", "text"), [
    (np.zeros((4, 4, 3), np.float32), r"uint8 array \(H, W, 3\), got float32 \(4, 4, 3\): read"),
    (np.zeros((4, 4), np.uint8), r"got uint8 \(4, 4\)"),
    (np.zeros((4, 4, 4), np.uint8), r"got uint8 \(4, 4, 4\)"),
    (np.zeros((3, 4, 4), np.uint8), r"got uint8 \(3, 4, 4\)"),
    (np.zeros((0, 4, 3), np.uint8), r"an image with pixels, got an empty array \(0, 4, 3\)"),
])  # fmt: skip
def test_what_is_not_an_image(image: np.ndarray, text: str) -> None:
    with pytest.raises(ImageError, match=text):
        Segmenter(red, described()).predict(image)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_output_that_is_not_finite(value: float) -> None:
    def broken(batch: np.ndarray) -> np.ndarray:
        logits = red(batch)
        logits[0, 0, 5, 5] = value
        return logits

    with pytest.raises(MapError, match="output is not finite: the model is damaged or diverged"):
        Segmenter(broken, described(input={"size": [64, 64]})).predict(PHOTO)


# --- judging --------------------------------------------------------------------------------


def test_the_verdict_uses_the_categorys_thresholds() -> None:
    spec = described(score={"min_area": 3})
    segmenter = Segmenter(red, spec, calibration=calibrated(spec, "brick", "tile"))
    score_map = np.zeros((20, 20), np.float32)
    score_map[3:5, 3:5], score_map[10, 10] = 0.7, 0.8  # the second is smaller than min_area
    verdict = segmenter.judge(score_map, category="brick")
    assert (verdict.decision, verdict.image_score) == ("NG", pytest.approx(0.8))
    assert [region.box for region in verdict.regions] == [(3, 3, 2, 2)]
    assert (verdict.image_threshold, verdict.pixel_threshold) == (0.6, 0.5)
    assert segmenter.judge(score_map * 0, category="tile").decision == "OK"
    assert segmenter.categories == ("brick", "tile")


def test_one_category_needs_no_name() -> None:
    spec = described()
    score_map = np.zeros((4, 4), np.float32)
    one = Segmenter(red, spec, calibration=calibrated(spec, "brick"))
    assert one.judge(score_map) == one.judge(score_map, category="brick")
    two = Segmenter(red, spec, calibration=calibrated(spec, "brick", "tile"))
    with pytest.raises(CalibrationError, match=r"which category.* calibrated for brick, tile"):
        two.judge(score_map)
    with pytest.raises(CalibrationError, match="did you mean 'brick'"):
        two.judge(score_map, category="brik")
    bare = Segmenter(red, spec)
    assert bare.categories == ()
    assert bare.calibration_hash == ""
    with pytest.raises(CalibrationError, match=r"no calibration\.json: run 'anomaly-u2net cal"):
        bare.judge(score_map)


def test_a_calibration_of_another_model_is_refused() -> None:
    spec, other = described(), described(seed=0, score={"min_area": 9})
    with pytest.raises(
        CalibrationError,
        match=rf"made for model {other.digest[:12]}…, not for this one \({spec.digest[:12]}…\)",
    ):
        Segmenter(red, spec, calibration=calibrated(other, "brick"))


def test_what_rows_carry() -> None:
    spec = described()
    calibration = calibrated(spec, "brick")
    segmenter = Segmenter(red, spec, calibration=calibration)
    assert segmenter.model_hash == spec.digest
    assert segmenter.recipe_hash == spec.recipe_hash
    assert segmenter.calibration_hash == calibration.digest


# --- loading --------------------------------------------------------------------------------


def test_both_backends_give_the_same_map(bundle: Path) -> None:
    maps = {
        name: Segmenter.load(bundle, backend=name, threads=1).predict(PHOTO)  # type: ignore[arg-type]
        for name in ("onnx", "torch")
    }
    assert np.ptp(maps["torch"]) > 0.001
    np.testing.assert_allclose(maps["onnx"], maps["torch"], atol=1e-6)
    np.testing.assert_array_equal(Segmenter.load(str(bundle)).predict(PHOTO), maps["onnx"])


def test_auto_takes_what_there_is(bundle: Path, recipe: Recipe) -> None:
    (bundle / "model.onnx").unlink()
    with pytest.raises(ModelFileError, match="is missing"):
        Segmenter.load(bundle)
    write_spec(bundle, recipe)
    assert Segmenter.load(bundle, threads=1).predict(PHOTO).shape == (50, 70)
    with pytest.raises(ModelFileError, match="this model has no onnx file"):
        Segmenter.load(bundle, backend="onnx")
    with pytest.raises(InputError, match="unknown backend 'tflite': expected auto, onnx, torch"):
        Segmenter.load(bundle, backend="tflite")  # type: ignore[arg-type]


def test_the_calibration_is_loaded_with_the_model(bundle: Path, spec: ModelSpec) -> None:
    saved = calibrated(spec, "brick")
    assert Segmenter.load(bundle).calibration is None
    saved.save(bundle / "calibration.json")
    assert Segmenter.load(bundle).calibration == saved
    assert Segmenter.load(bundle, calibrated=False).calibration is None
    calibrated(described(), "brick").save(bundle / "calibration.json")
    with pytest.raises(CalibrationError, match="was made for model"):
        Segmenter.load(bundle)
    assert Segmenter.load(bundle, calibrated=False).calibration is None


def test_faults_of_the_folder_reach_the_caller(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(ModelFileError, match="pickled models are never loaded"):
        Segmenter.load(tmp_path / "model.pkl")
    with pytest.raises(ModelFileError, match=r"no model\.json here"):
        Segmenter.load(tmp_path)
    with (bundle / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelFileError, match="altered or damaged"):
        Segmenter.load(bundle)


def test_a_line_computer_needs_no_torch(bundle: Path, spec: ModelSpec, tmp_path: Path) -> None:
    """A copied bundle of three files, scored in a process where torch cannot be imported."""
    calibrated(spec, "brick").save(bundle / "calibration.json")
    line = tmp_path / "line"
    line.mkdir()
    for name in ("model.json", "model.onnx", "calibration.json"):
        shutil.copy(bundle / name, line)
    Pillow.fromarray(PHOTO).save(tmp_path / "a.png")
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from anomaly_u2net.inference.segmenter import Segmenter\n"
        f"s = Segmenter.load({str(line)!r}, threads=1)\n"
        f"m = s.predict({str(tmp_path / 'a.png')!r})\n"
        "print(s.judge(m).decision, m.shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(" ", 1)[1] == "(50, 70)\n"
