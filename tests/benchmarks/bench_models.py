"""What the blocks and networks cost beside each other; writes the table of docs/reference/rivals.md.

usage: OMP_NUM_THREADS=1 python tests/benchmarks/bench_models.py [--size 256] [--repeats 5] [--write]

Parameters, work and activations are counted at 320 × 320 (`anomaly_u2net.models.cost`), the peak is
that of the tensors of a training step of two such images, beside the weights. Time is CPU
seconds of one image in evaluation mode on one thread: all networks in turn, ``--repeats`` turns, and
the medians over that of U²-Net†.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn import functional

from anomaly_u2net.models import SideNet, build_model
from anomaly_u2net.models.cost import measure_cost
from anomaly_u2net.recipe import ModelRecipe

DOCS = Path(__file__).parents[2] / "docs"
sys.path[:0] = [str(DOCS), str(Path(__file__).parent)]

from architecture import markdown, numbers, write_table  # noqa: E402
from peak import PeakBytes  # noqa: E402

PAGE = DOCS / "reference" / "rivals.md"
HEAD = (
    "`model:`", "what it is", "source",
    "parameters", "GMAC", "activations, MB", "training peak, MB", "CPU time",
)  # fmt: skip


class Rival(NamedTuple):
    recipe: ModelRecipe
    what: str
    source: str


U2NET, SMP = "arXiv 2005.09007", "segmentation_models.pytorch"
#: In the order of the table; the first is the unit of time.
RIVALS = [
    Rival(ModelRecipe(arch="u2netp"), "U²-Net†: RSU in each stage", U2NET),
    Rival(ModelRecipe(arch="u2netp", block="plain"), "two 3 × 3 in each stage", U2NET),
    Rival(ModelRecipe(arch="u2netp", block="residual"), "the same with a shortcut", "arXiv 1512.03385"),
    Rival(ModelRecipe(arch="u2netp", block="dense"), "each 3 × 3 sees all before", "arXiv 1608.06993"),
    Rival(ModelRecipe(arch="u2netp", block="inception"), "four dilations abreast", "arXiv 1409.4842"),
    Rival(ModelRecipe(arch="u2netp", block="pyramid"), "means over 2, 4 and 8 pixels", "arXiv 1904.09569"),
    Rival(ModelRecipe(arch="u2netp", conv="separable"), "depthwise 3 × 3 and 1 × 1", "arXiv 1704.04861"),
    Rival(ModelRecipe(arch="u2netp", stem="unshuffle2"), "at half the height and width", "arXiv 1609.05158"),
    Rival(
        ModelRecipe(arch="u2netp", stem="unshuffle2_learned"), "learned way back", "arXiv 1609.05158"
    ),
    Rival(ModelRecipe(arch="u2netp", repeats=2), "two RSUs in each stage, as ResNet", "ours"),
    Rival(ModelRecipe(arch="u2netp", fuse="mean"), "the mean of its side outputs", U2NET),
    Rival(ModelRecipe(arch="u2netp", deep_supervision="none"), "the finest output alone", U2NET),
    Rival(ModelRecipe(arch="u2net_fast"), "four of its stages at half size", "ours"),
    Rival(ModelRecipe(arch="u2net"), "U²-Net", U2NET),
    Rival(ModelRecipe(arch="small"), "U²-Net†'s rule, 16 channels, 4 stages", "ours"),
    Rival(ModelRecipe(arch="unet"), "one U of plain blocks", "arXiv 1505.04597"),
    Rival(ModelRecipe(arch="cascaded"), "two U-Nets in a row", "arXiv 1603.06937"),
    Rival(ModelRecipe(arch="hed"), "outputs on an encoder, no decoder", "arXiv 1504.06375"),
    Rival(ModelRecipe(arch="dilated"), "dilations and ASPP instead of a decoder", "arXiv 1606.00915"),
    Rival(ModelRecipe(arch="bidirectional"), "gated messages between scales", "Zhang et al., CVPR 2018"),
    Rival(ModelRecipe(arch="smp/unet-resnet18"), "a U-Net on a ResNet-18", SMP),
    Rival(ModelRecipe(arch="smp/unetplusplus-resnet18"), "U-Net++ on it", SMP),
    Rival(ModelRecipe(arch="smp/deeplabv3plus-resnet18"), "DeepLabV3+ on it", SMP),
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="of the timed image, pixels a side")
    parser.add_argument("--repeats", type=int, default=5, help="turns of all networks")
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    arguments = parser.parse_args()
    rivals = installed()
    seconds = cpu_seconds(
        [build_model(rival.recipe).eval() for rival in rivals],
        size=arguments.size,
        repeats=arguments.repeats,
    )
    rows = [
        [*row(rival), f"{training_peak(rival) / 1e6:.0f}", f"{time / seconds[0]:.2f}"]
        for rival, time in zip(rivals, seconds, strict=True)
    ]
    table = markdown(HEAD, rows, right=5)
    print(f"{table}\n\nU²-Net†: {seconds[0]:.3f} CPU s at {arguments.size} × {arguments.size}")
    if arguments.write:
        write_table(PAGE, "rivals", table=table)


def installed() -> list[Rival]:
    """All, but those of segmentation_models.pytorch where it is missing."""
    if importlib.util.find_spec("segmentation_models_pytorch"):
        return RIVALS
    print("segmentation_models.pytorch is not installed: left out")
    return [rival for rival in RIVALS if not rival.recipe.arch.startswith("smp/")]


def row(rival: Rival) -> list[str]:
    """What is counted of one network, without its time."""
    keys = rival.recipe.model_dump(exclude_defaults=True)
    named = ", ".join(
        f"{key}: {value}" for key, value in ({"arch": rival.recipe.arch} | keys).items()
    )
    cost = measure_cost(build_model(rival.recipe))
    return [f"`{{{named}}}`", rival.what, rival.source, *numbers(cost)]


def training_peak(rival: Rival) -> int:
    """Bytes of one step: two images, the loss of every output, gradients and AdamW's moments."""
    model = build_model(rival.recipe).train()
    optimizer = torch.optim.AdamW(model.parameters())
    image = torch.randn(2, 3, 320, 320)
    with PeakBytes() as meter:
        logits = model(image)
        outputs = (logits.fused, *logits.sides)
        losses = [functional.binary_cross_entropy_with_logits(o, (o > 0).float()) for o in outputs]
        torch.stack(losses).sum().backward()
        optimizer.step()
    return meter.peak


@torch.no_grad()
def cpu_seconds(models: list[SideNet], *, size: int, repeats: int) -> list[float]:
    """The median CPU seconds of each for one image; one turn before that is not counted."""
    torch.set_num_threads(1)
    image = torch.randn(1, 3, size, size)
    times: list[list[float]] = [[] for _ in models]
    for turn in range(repeats + 1):
        for model, found in zip(models, times, strict=True):
            start = time.process_time()
            model(image)
            if turn:
                found.append(time.process_time() - start)
    return [statistics.median(found) for found in times]


def test_a_u_of_plain_blocks_is_cheaper_than_one_of_rsus() -> None:
    models = [build_model(rival.recipe).eval() for rival in RIVALS[:2]]
    rsu, plain = cpu_seconds(models, size=128, repeats=5)
    assert plain < rsu


if __name__ == "__main__":
    main()
