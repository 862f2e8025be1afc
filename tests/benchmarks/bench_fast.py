"""u2net_fast beside U²-Net† and two U-Nets of smp: torch, OpenVINO float32, OpenVINO INT8.

usage: OMP_NUM_THREADS=1 python tests/benchmarks/bench_fast.py [--repeats 15] [--write]

CPU milliseconds of one image on one thread: all networks and ways in turn, ``--repeats`` turns,
medians. OpenVINO runs the exported ONNX file at a fixed size, float32 by its precision hint (it would
take bfloat16 where the processor has it); INT8 is NNCF's post-training quantisation with its
defaults, on noise, which is enough for a time and says nothing about quality. Needs the extras smp
and openvino, and nncf. ``--write`` puts the table into docs/reference/rivals.md.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anomaly_u2net.inference.export import export_onnx
from anomaly_u2net.models import build_model
from anomaly_u2net.recipe import ModelRecipe

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS))

from architecture import markdown, write_table  # noqa: E402

PAGE = DOCS / "reference" / "rivals.md"
#: The last two are what a user would pick instead; ImageNet weights of the last come as a package.
ARCHITECTURES = ("u2netp", "u2net_fast", "smp/unet-resnet18", "smp/unet-tu-efficientnet_lite0")
SIZES = (256, 320)
WAYS = ("torch", "OpenVINO float32", "OpenVINO INT8")

Run = Callable[[], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15, help="turns of all networks")
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("nncf").setLevel(logging.ERROR)
    rows = []
    for size in SIZES:
        times = milliseconds(runs(size), repeats=arguments.repeats)
        for arch in ARCHITECTURES:
            shown = [f"{times[arch, way]:.1f}" for way in WAYS]
            rows.append([f"`{{arch: {arch}}}`", f"{size} × {size}", *shown])
    table = markdown(("`model:`", "image", *WAYS), rows, right=3)
    print(table)
    if arguments.write:
        write_table(PAGE, "fast", table=table)


def runs(size: int) -> dict[tuple[str, str], Run]:
    """One image through each network, each way."""
    import nncf
    import openvino

    rng = np.random.default_rng(0)
    images = [rng.normal(size=(1, 3, size, size)).astype(np.float32) for _ in range(4)]
    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    found: dict[tuple[str, str], Run] = {}
    for arch in ARCHITECTURES:
        model = build_model(ModelRecipe(arch=arch)).eval()
        with tempfile.TemporaryDirectory() as folder:
            export_onnx(model, Path(folder) / "model.onnx")
            graph = core.read_model(Path(folder) / "model.onnx")
        graph.reshape([1, 3, size, size])
        small = nncf.quantize(graph, nncf.Dataset(images), subset_size=len(images))
        found[arch, WAYS[0]] = _torch_run(model, images[0])
        for way, compiled in zip(WAYS[1:], (graph, small), strict=True):
            found[arch, way] = _openvino_run(
                core.compile_model(compiled, "CPU", settings), images[0]
            )
    return found


def _torch_run(model: torch.nn.Module, image: np.ndarray) -> Run:
    def run() -> None:
        with torch.inference_mode():
            model(torch.from_numpy(image))

    return run


def _openvino_run(compiled: Any, image: np.ndarray) -> Run:
    return lambda: compiled([image])


def milliseconds(runs: dict[tuple[str, str], Run], *, repeats: int) -> dict[tuple[str, str], float]:
    """The median CPU time of each; before each measurement it runs once uncounted, to warm caches."""
    times: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for _ in range(repeats):
        for key, run in runs.items():
            run()
            start = time.process_time()
            run()
            times[key].append(1e3 * (time.process_time() - start))
    return {key: statistics.median(found) for key, found in times.items()}


if __name__ == "__main__":
    main()
