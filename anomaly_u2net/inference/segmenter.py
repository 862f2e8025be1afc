"""From an image to its score map and verdict: the one road that everything uses."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from anomaly_u2net.calibration import Calibration, judge
from anomaly_u2net.data.geometry import normalise, plan
from anomaly_u2net.data.images import read_image
from anomaly_u2net.errors import CalibrationError, ImageError, InputError, MapError
from anomaly_u2net.inference.backends import BACKENDS, Backend
from anomaly_u2net.inference.bundle import ModelSpec, read_spec
from anomaly_u2net.metrics import image_score
from anomaly_u2net.types import Image, ScoreMap, Verdict

CALIBRATION_NAME = "calibration.json"


class Segmenter:
    """A trained model with its calibration; `load` makes one from a run folder.

    ``backend`` is the network: normalised images float32 (B, 3, h, w) → logits (B, 1, h, w). Here a
    stand-in that finds bright pixels defective:

    >>> from anomaly_u2net.recipe import Recipe
    >>> recipe = Recipe.from_dict({"name": "bright", "input": {"size": 32}})
    >>> spec = ModelSpec(
    ...     name=recipe.name, model=recipe.model, input=recipe.input, score=recipe.score,
    ...     recipe_hash=recipe.digest, files={},
    ... )
    >>> segmenter = Segmenter(lambda batch: batch[:, :1], spec)
    >>> score_map = segmenter.predict(np.full((20, 30, 3), 255, np.uint8))
    >>> score_map.shape, bool((score_map > 0.5).all())
    ((20, 30), True)
    """

    def __init__(
        self, backend: Backend, spec: ModelSpec, *, calibration: Calibration | None = None
    ) -> None:
        self.spec = spec
        self._run = backend
        self.calibration = calibration
        if calibration is not None:
            calibration.check_model(spec.digest)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        backend: Literal["auto", "onnx", "torch"] = "auto",
        threads: int | None = None,
        calibrated: bool = True,
    ) -> Segmenter:
        """Load a run folder, or a folder with ``model.json``, weights and ``calibration.json``.

        ``auto``: onnx when the model has it, else torch. ``calibrated=False`` leaves the
        calibration out, to make a new one. Raises `ModelFileError` for missing or
        altered files, `CalibrationError` for a calibration of another model.
        """
        folder = Path(path)
        spec = read_spec(folder)
        if backend == "auto":
            backend = "onnx" if "onnx" in spec.files else "torch"
        if backend not in BACKENDS:
            raise InputError(f"unknown backend {backend!r}: expected auto, {', '.join(BACKENDS)}")
        saved = folder / CALIBRATION_NAME
        calibration = Calibration.load(saved) if calibrated and saved.is_file() else None
        run = BACKENDS[backend](folder, spec, threads=threads)
        return cls(run, spec, calibration=calibration)

    def predict(self, image: str | Path | Image) -> ScoreMap:
        """The defect probability of every pixel: float32 (H, W) in 0..1 at the original size.

        ``image``: a path, or uint8 (H, W, 3) RGB. Raises `ImageError` for what is not an image,
        `MapError` when the network's output is not finite.
        """
        pixels = read_image(image) if isinstance(image, (str, Path)) else image
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise ImageError(
                f"expected a uint8 array (H, W, 3), got {pixels.dtype} {pixels.shape}: "
                "read files with anomaly_u2net.data.images.read_image"
            )
        height, width = pixels.shape[:2]
        if height == 0 or width == 0:
            raise ImageError(f"expected an image with pixels, got an empty array {pixels.shape}")
        geometry = plan((height, width), self.spec.input.fit, size=self.spec.input.size)
        logits = self._run(normalise(geometry.image(pixels))[None])[0, 0]
        if not np.isfinite(logits).all():
            raise MapError("the network's output is not finite: the model is damaged or diverged")
        return geometry.back(sigmoid(logits))

    def predict_scored(self, image: Image) -> tuple[ScoreMap, float]:
        """The map of `predict` for uint8 (H, W, 3), and the image score that the recipe asks for."""
        score_map = self.predict(image)
        return score_map, image_score(self.spec.score.image_score)(score_map)

    def judge(self, score_map: ScoreMap, *, category: str | None = None) -> Verdict:
        """OK or NG by the calibrated thresholds of ``category``.

        ``None`` is enough when the model is calibrated for one category. Raises
        `CalibrationError` without a calibration or for an unknown category.
        """
        if self.calibration is None:
            raise CalibrationError(
                "this model has no calibration.json: run 'anomaly-u2net calibrate' on its folder"
            )
        if category is None:
            if len(self.categories) != 1:
                raise CalibrationError(
                    f"which category? This model is calibrated for {', '.join(self.categories)}"
                )
            category = self.categories[0]
        thresholds = self.calibration.for_category(category)
        score = self.spec.score
        return judge(score_map, thresholds, image_score=score.image_score, min_area=score.min_area)

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories that thresholds are known for."""
        return tuple(self.calibration.categories) if self.calibration else ()

    @property
    def model_hash(self) -> str:
        return self.spec.digest

    @property
    def recipe_hash(self) -> str:
        return self.spec.recipe_hash

    @property
    def calibration_hash(self) -> str:
        return self.calibration.digest if self.calibration else ""


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + e^−x), float32; small probabilities keep their full relative precision."""
    small = np.exp(-np.abs(logits, dtype=np.float32))
    return np.where(logits >= 0, np.float32(1), small) / (1 + small)
