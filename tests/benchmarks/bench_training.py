"""What a training step costs: the public U²-Net loop, ours, and ours with each option.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_training.py --markdown table.md

U²-Net† on crops of 160, batch 4. All contestants take turns in this process, on one thread, and the
medians of their CPU seconds are compared. The allocator belongs to a whole process, so it is
measured in fresh ones that take turns. On a GPU (``--device cuda``) seconds are those of the clock,
after a synchronisation, and memory is torch.cuda.max_memory_allocated.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow
from torch import nn

from anomaly_u2net.data.training_set import BalancedBatches, TrainingSet, collate
from anomaly_u2net.models import SideNet, build_model
from anomaly_u2net.recipe import Recipe
from anomaly_u2net.recipe.find import find_recipe
from anomaly_u2net.training.module import TrainingModule
from anomaly_u2net.training.speed import keep_freed_memory, precision
from anomaly_u2net.types import Batch, ImageRecord

sys.path.insert(0, str(Path(__file__).parent))

from peak import PeakBytes

CROP, BATCH = 160, 4
#: Steps that losses are compared over. In float64 the first few may be that far apart, relatively:
#: rounding drives two equal loops apart by up to ten times a step (1e-8 after five, at worst).
#: In float32 Adam turns the rounding of gradients near 0 into whole steps: no bar, only the number.
LOSS_STEPS, SAME_STEPS, LOSS_TOLERANCE = 20, 5, 1e-6
#: Of a step of this recipe, as it is shipped and with its quick network, a batch may take that much.
LOADER_RECIPE, LOADER_SHARE = "magnetic_tile_small", 0.10
PLAIN = "ours, NCHW, AdamW not fused"
#: What differs from our defaults: layout, optimiser, recipe keys.
OPTIONS: dict[str, dict[str, Any]] = {
    PLAIN: {"nchw": True, "fused": False},
    "ours, NCHW": {"nchw": True},
    "ours, AdamW not fused": {"fused": False},
    "ours": {},
    "ours, train.checkpoint": {"checkpoint": True},
    "ours, train.precision bf16": {"bf16": True},
    "ours, NCHW, train.precision bf16": {"bf16": True, "nchw": True},
}
#: Measured in fresh processes; whether freed memory is kept.
FRESH = {"public loop": False, "ours, allocator as it is": False, "ours": True}

Step = Callable[[Batch], float]


def fresh_model(device: str, dtype: torch.dtype, arch: str = "u2netp") -> SideNet:
    torch.manual_seed(0)
    recipe = Recipe.from_dict({"name": "bench", "model": {"arch": arch}})
    return build_model(recipe.model).to(device, dtype)


def make_batch(
    seed: int, *, count: int, side: int, device: str, dtype: torch.dtype = torch.float32
) -> Batch:
    """Noise with one bright rectangle per image, which is the mask: something to learn."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(count, 3, side, side)).astype(np.float32)
    mask = np.zeros((count, 1, side, side), np.float32)
    for picture, truth in zip(image, mask, strict=True):
        top, left = rng.integers(0, side * 3 // 4, 2)
        window = (slice(None), slice(top, top + side // 4), slice(left, left + side // 6))
        truth[window] = 1
        picture[window] += 2
    tensors = (torch.from_numpy(array).to(device, dtype) for array in (image, mask))
    return Batch(*tensors, torch.ones(mask.shape, device=device, dtype=dtype))


def public_loop(device: str, dtype: torch.dtype = torch.float32) -> Step:
    """The loop of the public training script: sigmoids, BCE on probabilities, Adam, no average."""
    model = fresh_model(device, dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    bce = nn.BCELoss()

    def step(batch: Batch) -> float:
        optimizer.zero_grad()
        logits = model(batch.image)
        maps = [torch.sigmoid(one) for one in (logits.fused, *logits.sides)]
        losses = [bce(one, batch.mask) for one in maps]
        total = torch.stack(losses).sum()
        total.backward()
        optimizer.step()
        losses[0].item()  # it notes the loss of the fused map too
        return float(total.item())

    return step


def our_loop(
    device: str,
    dtype: torch.dtype = torch.float32,
    *,
    arch: str = "u2netp",
    nchw: bool = False,
    fused: bool = True,
    bf16: bool = False,
    checkpoint: bool = False,
    compiled: bool = False,
    **train: Any,
) -> Step:
    """Our training step: clipped gradients, averaged weights, noted losses and ranges."""
    recipe = Recipe.from_dict({"name": "bench", "train": {"checkpoint": checkpoint} | train})
    module = TrainingModule(fresh_model(device, dtype, arch), recipe)
    if nchw:
        module.to(memory_format=torch.contiguous_format)
    if compiled:
        module.model.compile()
    settings = recipe.train
    optimizer = torch.optim.AdamW(
        module.model.parameters(),
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        fused=fused and not bf16,
    )

    def step(batch: Batch) -> float:
        optimizer.zero_grad()
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
            total = module.training_step(batch, 0)
        total.backward()
        if settings.clip is not None:
            nn.utils.clip_grad_norm_(module.model.parameters(), settings.clip)
        optimizer.step()
        module.on_train_batch_end()
        return float(total.item())

    return step


def make_step(name: str, device: str) -> Step:
    return public_loop(device) if name == "public loop" else our_loop(device, **OPTIONS[name])


def seconds(step: Callable[[], Any], device: str) -> float:
    """CPU seconds of one call; on a GPU seconds of the clock, until it is done."""
    if device == "cpu":
        begun = time.process_time()
        step()
        return time.process_time() - begun
    torch.cuda.synchronize()
    begun = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return time.perf_counter() - begun


def peak_bytes(step: Callable[[], Any], device: str) -> int:
    if device == "cpu":
        with PeakBytes() as meter:
            step()
        return meter.peak
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated() - before


def measure_options(device: str, repeats: int) -> dict[str, tuple[float, int]]:
    """Name → (median seconds of a step, peak bytes of its tensors), all taking turns."""
    batch = make_batch(0, count=BATCH, side=CROP, device=device)
    steps = {name: make_step(name, device) for name in ("public loop", *OPTIONS)}
    peaks = {name: peak_bytes(lambda s=step: s(batch), device) for name, step in steps.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            times[name].append(seconds(lambda s=step: s(batch), device))
    return {name: (statistics.median(times[name]), peaks[name]) for name in steps}


def measure_one(name: str, repeats: int) -> dict[str, float]:
    """In this process, which was started for it."""
    if FRESH[name]:
        assert keep_freed_memory(), "this needs glibc, and no MALLOC_ variables"
    step = make_step(name.partition(", allocator")[0], "cpu")
    batch = make_batch(0, count=BATCH, side=CROP, device="cpu")
    step(batch)
    times = [seconds(lambda: step(batch), "cpu") for _ in range(repeats)]
    # Not ru_maxrss, which counts the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return {"seconds": statistics.median(times), "resident": peak * 1024}


def measure_fresh(turns: int, repeats: int) -> dict[str, tuple[float, float]]:
    """Name → (median seconds, median of the largest resident size), a fresh process a turn."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in FRESH}
    for _ in range(turns):
        for name, results in found.items():
            command = [sys.executable, __file__, "--only", name, "--repeats", str(repeats)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            results.append(json.loads(done.stdout))
    return {
        name: tuple(statistics.median(r[key] for r in results) for key in ("seconds", "resident"))
        for name, results in found.items()
    }


def compare_losses(device: str, dtype: torch.dtype) -> tuple[list[float], list[float]]:
    """The losses of the public loop and of ours, from the same weights and the same batches."""
    same = {"lr": 1e-3, "weight_decay": 0, "clip": None}
    loops = public_loop(device, dtype), our_loop(device, dtype, **same)
    batches = [
        make_batch(n, count=2, side=64, device=device, dtype=dtype) for n in range(LOSS_STEPS)
    ]
    public, ours = ([loop(batch) for batch in batches] for loop in loops)
    return public, ours


def compare_precisions(device: str) -> tuple[list[float], list[float]]:
    """The losses of our loop in fp32 and in bf16, from the same weights, on the batches timed here."""
    loops = our_loop(device), our_loop(device, bf16=True)
    batches = [make_batch(n, count=BATCH, side=CROP, device=device) for n in range(LOSS_STEPS)]
    fp32, bf16 = ([loop(batch) for batch in batches] for loop in loops)
    return fp32, bf16


def measure_loader(recipe: Recipe, batches: int = 40) -> float:
    """Median CPU seconds to make a batch of ``recipe`` from images like those of magnetic tile."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        records = []
        for number in range(8):
            path, mask = (Path(folder) / f"{number}{end}.png" for end in ("", "_mask"))
            Pillow.fromarray(rng.integers(0, 256, (360, 280, 3), np.uint8)).save(path)
            truth = np.zeros((360, 280), np.uint8)
            truth[100:130, 100:140] = 255
            Pillow.fromarray(truth).save(mask)
            label, where = ("good", None) if number % 2 else ("spot", mask)
            records.append(ImageRecord(path, "bench", "train", label, where))
        images = TrainingSet(
            records, fit=recipe.input, augmentation=recipe.augment, loss=recipe.loss
        )
        draws = BalancedBatches(
            [record.defective for record in records],
            batch_size=recipe.train.batch_size, defect_share=recipe.train.defect_share,
            steps_per_epoch=batches + 4, seed=0,
        )  # fmt: skip
        made = [seconds(lambda d=draw: collate([images[k] for k in d]), "cpu") for draw in draws]
    return statistics.median(made[4:])  # by then every image is in memory


def check_loader(device: str, repeats: int) -> list[str]:
    """What share of a step, in the recipe's own precision, making its batch takes."""
    recipe = find_recipe(LOADER_RECIPE)
    made = measure_loader(recipe)
    side = recipe.augment.crop
    assert side is not None
    batch = make_batch(0, count=recipe.train.batch_size, side=side, device=device)
    bf16 = precision(recipe.train) == "bf16"
    lines = []
    for arch in (recipe.model.arch, "u2net_fast"):
        step = our_loop(device, arch=arch, bf16=bf16)
        step(batch)
        took = statistics.median(seconds(lambda s=step: s(batch), device) for _ in range(repeats))
        share = made / took
        lines.append(
            f"{recipe.name}, {arch}: a batch is made in {1e3 * made:.0f} ms, {share:.1%} of a step on "
            f"one core: {_verdict(share <= LOADER_SHARE)} (at most {LOADER_SHARE:.0%})"
        )
    return lines


def table(device: str, arguments: argparse.Namespace) -> str:
    options = measure_options(device, arguments.repeats)
    base, base_peak = options["public loop"]
    lines = [
        "| loop | ms a step | times as fast as public | peak of tensors, MB | of public |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {1e3 * took:.0f} | {base / took:.2f} | {peak / 1e6:.0f} | "
            f"{peak / base_peak:.0%} |"
            for name, (took, peak) in options.items()
        ),
    ]
    if device == "cpu" and arguments.turns:
        fresh = measure_fresh(arguments.turns, arguments.repeats)
        first = fresh["public loop"][0]
        lines += [
            "",
            "| in fresh processes | ms a step | times as fast as public | resident, MB |",
            "|---|---|---|---|",
            *(
                f"| {name} | {1e3 * took:.0f} | {first / took:.2f} | {size / 1e6:.0f} |"
                for name, (took, size) in fresh.items()
            ),
        ]
    return "\n".join(lines) + "\n"


def measure_compile(device: str, repeats: int) -> str:
    """How long `torch.compile` takes, how much faster a step then is, and when that pays."""
    batch = make_batch(0, count=BATCH, side=CROP, device=device)
    steps = {"as it is": our_loop(device), "compiled": our_loop(device, compiled=True)}
    begun = time.perf_counter()
    steps["compiled"](batch)
    spent = time.perf_counter() - begun  # by the clock: the compiler is another process
    steps["as it is"](batch)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            times[name].append(seconds(lambda s=step: s(batch), device))
    plain, compiled = (statistics.median(times[name]) for name in steps)
    saved = plain - compiled
    pays = f"pays after {spent / saved:.0f} steps" if saved > 0 else "never pays"
    return f"torch.compile: {plain / compiled:.2f} times as fast, {spent:.0f} s to compile: {pays}"


def checks(device: str, repeats: int) -> list[str]:
    """What must hold, said as lines."""
    lines = []
    for dtype in (torch.float64, torch.float32):
        public, ours = compare_losses(device, dtype)
        apart = _apart(public, ours)
        lines.append(
            f"{dtype}: loss from {public[0]:.4f} to {public[-1]:.4f} in {LOSS_STEPS} steps "
            f"(ours {ours[-1]:.4f}), at most {max(apart):.1e} apart"
        )
        if dtype == torch.float64:
            first = max(apart[:SAME_STEPS])
            lines[-1] += (
                f", in the first {SAME_STEPS} {first:.1e}: {_verdict(first <= LOSS_TOLERANCE)} "
                f"({LOSS_TOLERANCE:.0e})"
            )
    fp32, bf16 = compare_precisions(device)
    lines.append(
        f"bf16: loss from {bf16[0]:.4f} to {bf16[-1]:.4f} in {LOSS_STEPS} steps (fp32 from "
        f"{fp32[0]:.4f} to {fp32[-1]:.4f}), at most {max(_apart(fp32, bf16)):.1%} apart"
    )
    return lines + check_loader(device, repeats)


def _apart(one: list[float], other: list[float]) -> list[float]:
    return [abs(a - b) / a for a, b in zip(one, other, strict=True)]


def _verdict(holds: bool) -> str:
    return "holds" if holds else "MISSED"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--turns", type=int, default=5, help="of fresh processes; 0: none")
    parser.add_argument("--markdown", type=Path, help="write the tables there, too")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile alone")
    parser.add_argument("--only", choices=FRESH, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.only:
        print(json.dumps(measure_one(arguments.only, arguments.repeats)))
        return
    print(f"torch {torch.__version__}, {platform.machine()}, {arguments.device}")
    if arguments.compile:
        print(measure_compile(arguments.device, arguments.repeats))
        return
    print("\n".join(checks(arguments.device, arguments.repeats)), flush=True)
    text = table(arguments.device, arguments)
    print(text)
    if arguments.markdown:
        arguments.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
