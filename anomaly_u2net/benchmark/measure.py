"""What a trained cell costs and how it does on the validation part; never on test images."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from statistics import median

from anomaly_u2net.benchmark.run import Trained
from anomaly_u2net.data.geometry import plan
from anomaly_u2net.data.images import read_image
from anomaly_u2net.evaluation import Evaluation, Measured, evaluate
from anomaly_u2net.evaluation.compare import Comparison, compare, same_images
from anomaly_u2net.evaluation.evaluate import OnImage
from anomaly_u2net.evaluation.runs import run_records
from anomaly_u2net.inference.segmenter import Segmenter
from anomaly_u2net.models import build_model
from anomaly_u2net.models.cost import measure_cost
from anomaly_u2net.types import Image, ImageRecord, Split

SPLIT: Split = "validation"
#: The numbers of the table, out of `evaluation.RANKING`, and those that get a difference.
NUMBERS = ("image_auroc", "pixel_ap", "aupro_0.30", "aupro_0.05", "pixel_f1_max")
DIFFERENCES = ("aupro_0.30", "pixel_ap")
#: Images that each cell is timed on, fewest and most, and the seconds that decide in between.
TIMED_IMAGES = 5, 100
TIMED_SECONDS = 10.0


def validation_records(run: Trained) -> list[ImageRecord]:
    """The images that the weights of ``run`` were chosen on."""
    return run_records(run.folder, SPLIT)


def costs(run: Trained, record: ImageRecord) -> dict[str, Measured]:
    """Parameters, GMAC for an image of the size of ``record``, steps and minutes."""
    fit = run.cell.recipe.input
    canvas = plan(read_image(record.path).shape[:2], fit.fit, size=fit.size).canvas
    cost = measure_cost(build_model(run.cell.recipe.model), size=canvas)
    return {
        "parameters": Measured(cost.parameters),
        "gmac": Measured(cost.gmac),
        "steps": Measured(run.steps),
        "minutes": Measured(run.minutes),
    }


def evaluate_cell(run: Trained, *, on_image: OnImage | None = None) -> Evaluation:
    """The numbers of ``run`` with their intervals, also written into its folder."""
    segmenter = Segmenter.load(run.folder, calibrated=False)
    found = evaluate(segmenter, validation_records(run), split=SPLIT, on_image=on_image)
    found.save(run.folder / "evaluation" / SPLIT)
    return found


def compare_cells(run: Trained, first: Trained, *, on_image: OnImage | None = None) -> Comparison:
    """The numbers of ``run`` minus those of ``first``; `DatasetError` if their images differ."""
    records = validation_records(run)
    same_images(records, validation_records(first))
    a, b = (Segmenter.load(one.folder, calibrated=False) for one in (run, first))
    return compare(a, b, records, split=SPLIT, on_image=on_image)


def time_cells(
    runs: Sequence[Trained], *, on_image: Callable[[int, int], object] = lambda *_: None
) -> list[float]:
    """Milliseconds per image of each of ``runs``, side by side.

    The median over images (5 to 100, repeated where there are fewer; about ten seconds for each
    run) of resizing, the exported network on one CPU thread, and resizing back; reading the file is
    left out. All runs take one image after the other, another run first each time, so that what
    slows the machine down slows all of them. on_image: called with how many images are done, and of
    how many.
    """
    records = validation_records(runs[0])
    segmenters = [
        Segmenter.load(run.folder, backend="onnx", threads=1, calibrated=False) for run in runs
    ]
    image = read_image(records[0].path)
    for segmenter in segmenters:  # the first image of a session takes longer
        segmenter.predict(image)
    one_round = sum(_milliseconds(segmenter, image) for segmenter in segmenters) / 1000
    fewest, most = TIMED_IMAGES
    rounds = min(most, max(fewest, round(TIMED_SECONDS * len(runs) / one_round)))
    taken: list[list[float]] = [[] for _ in runs]
    chosen = records[:: math.ceil(len(records) / rounds)]
    for index, record in enumerate(islice(cycle(chosen), rounds)):
        image = read_image(record.path)
        for place in range(len(runs)):
            which = (index + place) % len(runs)
            taken[which].append(_milliseconds(segmenters[which], image))
        on_image(index + 1, rounds)
    return [median(times) for times in taken]


def _milliseconds(segmenter: Segmenter, image: Image) -> float:
    begun = time.perf_counter()
    segmenter.predict(image)
    return 1000 * (time.perf_counter() - begun)
