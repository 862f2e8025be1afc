"""How long `evaluate` takes beside the network: 150 maps of 1024 × 1024, five defect types.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_evaluate.py

Four ways, in turn: streamed without and with intervals, exact without and with. For each the
CPU seconds, and the largest resident size so far next to what `plan_memory` reckons with; the maps and
masks are all held from the start, which streaming alone would not do.
"""

from __future__ import annotations

import argparse
import resource
import time
from itertools import product
from pathlib import Path

from bench_intervals import make_set

from anomaly_u2net.calibration import CategoryThresholds, Threshold
from anomaly_u2net.evaluation.evaluate import category_scores
from anomaly_u2net.evaluation.facts import image_facts
from anomaly_u2net.evaluation.memory import (
    STREAM_STATE,
    ImageSize,
    exact_bytes,
    format_bytes,
    streamed_bytes,
)
from anomaly_u2net.evaluation.pixels import StreamedPixels, exact_pixels
from anomaly_u2net.evaluation.predictions import Prediction, Predictions
from anomaly_u2net.evaluation.table import CategoryScores
from anomaly_u2net.types import GOOD, ImageRecord

KINDS = 5
LIMIT = Threshold(0.45, "false_reject", "At most 5 %.", 19, {"alpha": 0.05}, attained=0.05)
THRESHOLDS = CategoryThresholds(LIMIT, LIMIT, pixel_best_f1=Threshold(0.4, "best_f1", "None.", 19))


def make_predictions(count: int, size: int) -> list[Prediction]:
    """The set of `bench_intervals`, good images first, then one defect type after another."""
    maps, masks = make_set(count, size)
    made = []
    for index, (score_map, mask) in enumerate(zip(maps, masks.view(bool), strict=True)):
        label = f"defect {index % KINDS}" if mask.any() else GOOD
        record = ImageRecord(Path(f"{index}.png"), "set", "test", label)
        made.append(Prediction(record, score_map, mask, float(score_map.max())))
    return sorted(made, key=lambda one: (one.record.defective, one.record.label))


def measure(predictions: list[Prediction], *, engine: str, intervals: bool) -> CategoryScores:
    """What `evaluate` does with the maps of one category."""
    facts = [image_facts(one, THRESHOLDS) for one in predictions]
    if engine == "streamed":
        stream = StreamedPixels(intervals=intervals)
        for one in predictions:
            stream.update(one.score_map, one.mask, label=one.record.label)
        return category_scores("set", facts, stream.finish(), intervals=intervals)
    kept = Predictions()
    for one in predictions:
        kept.add(one)
    pixels = exact_pixels(kept, intervals=intervals)
    return category_scores("set", facts, pixels, intervals=intervals)


def planned(predictions: list[Prediction], *, engine: str, intervals: bool) -> int:
    """The bytes that `plan_memory` would reckon with for images like these."""
    sizes = [ImageSize(p.mask.size, int(p.mask.sum()), p.record.label) for p in predictions]
    if engine == "exact":
        return exact_bytes(sizes, intervals=intervals)
    return streamed_bytes(sizes) if intervals else STREAM_STATE


def peak() -> int:
    """The largest resident size so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--size", type=int, default=1024)
    arguments = parser.parse_args()
    predictions = make_predictions(arguments.count, arguments.size)
    held = sum(one.score_map.nbytes + one.mask.nbytes for one in predictions)
    print(f"resident: {format_bytes(peak())}, of which maps and masks {format_bytes(held)}")
    for engine, intervals in product(("streamed", "exact"), (False, True)):
        started = time.process_time()
        row = measure(predictions, engine=engine, intervals=intervals)
        took = time.process_time() - started
        plan = format_bytes(planned(predictions, engine=engine, intervals=intervals))
        way = f"{engine}{', all intervals' if intervals else ''}"
        print(
            f"{way:24} {took:6.2f} s, at most {format_bytes(peak())} so far (planned {plan}), "
            f"AUPRO {row.metrics['aupro_0.30']:.6f}"
        )


if __name__ == "__main__":
    main()
