"""Our U²-Net† against the public network, on real images.

In float32 two ways to compute the same network differ by rounding, so the file's own graph is run
node by node in float64 by the interpreter below, which knows nothing of our classes. That is the
truth that our network, and ONNX Runtime beside it, are measured against. One engine runs both files
alike: our export of the network that the public file was unfolded into, and that file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import Tensor
from torch.nn import functional as F

from anomaly_u2net.data.geometry import normalise, plan
from anomaly_u2net.data.images import read_image
from anomaly_u2net.inference.export import export_onnx
from anomaly_u2net.models import load_weights, u2netp

#: (height, width) of the canvases → how many images; the last canvas is the file's own.
CANVASES = {(64, 64): 12, (65, 97): 6, (112, 72): 5, (131, 96): 2, (320, 320): 1}
#: Most difference of a probability in float64; 5e-14 is measured.
EXACT = 1e-11
#: Most difference of a fused probability between two files that one engine runs in float32.
SAME_ENGINE = 1e-5
#: The same between torch and ONNX Runtime, on images where that one is so near the truth itself.
TWO_ENGINES = 1e-5


# --- an interpreter of the graph ------------------------------------------------------------


def interpolation(old: int, new: int) -> Tensor:
    """(new, old): linear interpolation along one axis, by ONNX's `pytorch_half_pixel`."""
    place = (torch.arange(new, dtype=torch.float64) + 0.5) * old / new - 0.5
    if new == 1:
        place = torch.zeros(1, dtype=torch.float64)
    place = place.clamp(0, old - 1)
    below = place.floor().long()
    above = (below + 1).clamp_max(old - 1)
    share = (place - below)[:, None]
    eye = torch.eye(old, dtype=torch.float64)
    return (1 - share) * eye[below] + share * eye[above]


def resize(x: Tensor, sizes: Tensor) -> Tensor:
    """Bilinear, as two matrix products: rows, then columns."""
    height, width = (int(side) for side in sizes[2:])
    rows, columns = interpolation(x.shape[2], height), interpolation(x.shape[3], width)
    return rows @ x @ columns.T


def max_pool(x: Tensor) -> Tensor:
    """2 × 2 in ceil mode: the last row or column of an odd side stands alone."""
    x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2), value=-torch.inf)
    return x.unflatten(3, (-1, 2)).amax(4).unflatten(2, (-1, 2)).amax(3)


def convolve(x: Tensor, weight: Tensor, bias: Tensor, a: dict[str, Any]) -> Tensor:
    assert a["group"] == 1
    assert a["strides"] == [1, 1]
    assert a["pads"][:2] == a["pads"][2:]
    return F.conv2d(x, weight, bias, padding=a["pads"][:2], dilation=a["dilations"])


def part(x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor) -> Tensor:
    assert axes.tolist() == [0]
    return x[int(starts) : int(ends)]


OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "Conv": lambda a, *v: convolve(*v, a),
    "Relu": lambda a, x: x.clamp_min(0),
    "Sigmoid": lambda a, x: 1 / (1 + torch.exp(-x)),
    "Add": lambda a, x, y: x + y,
    "Concat": lambda a, *v: torch.cat(v, a["axis"]),
    "MaxPool": lambda a, x: max_pool(x),
    "Resize": lambda a, x, roi, scales, sizes: resize(x, sizes),
    "Shape": lambda a, x: torch.tensor(x.shape),
    "Constant": lambda a: torch.from_numpy(numpy_helper.to_array(a["value"]).copy()),
    "Gather": lambda a, x, index: x[index],
    "Unsqueeze": lambda a, x: x.unsqueeze(*a["axes"]),
    "Slice": lambda a, *v: part(*v),
    "Cast": lambda a, x: x.long(),
}


class Graph:
    """A file, each node run in float64: (B, 3, h, w) → the fused and six side maps."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        arrays = {t.name: numpy_helper.to_array(t) for t in self.graph.initializer}
        self.weights = {name: torch.from_numpy(v.copy()).double() for name, v in arrays.items()}
        self.nodes = [
            (node, {a.name: helper.get_attribute_value(a) for a in node.attribute})
            for node in self.graph.node
        ]
        for node, a in self.nodes:
            if node.op_type == "MaxPool":
                wanted = {"ceil_mode": 1, "kernel_shape": [2, 2], "pads": [0] * 4}
                assert a | wanted | {"strides": [2, 2]} == a
            if node.op_type == "Resize":
                assert a["coordinate_transformation_mode"] == b"pytorch_half_pixel"
                assert a["mode"] == b"linear"

    @torch.no_grad()
    def __call__(self, x: Tensor) -> list[Tensor]:
        values = self.weights | {self.graph.input[0].name: x.double()}
        last = {name: i for i, (node, _) in enumerate(self.nodes) for name in node.input}
        for i, (node, a) in enumerate(self.nodes):
            inputs = [values[name] for name in node.input]
            values[node.output[0]] = OPERATIONS[node.op_type](a, *inputs)
            for name in node.input:
                if last[name] == i:
                    values.pop(name, None)
        return [values[output.name] for output in self.graph.output]


def test_the_interpreter_resizes_as_torch_does() -> None:
    x = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for size in ((5, 8), (10, 15), (1, 3), (4, 31)):
        expected = F.interpolate(x, size, mode="bilinear", align_corners=False)
        if 1 not in size:  # there pytorch_half_pixel takes the first pixel
            torch.testing.assert_close(resize(x, torch.tensor([2, 3, *size])), expected)
    torch.testing.assert_close(max_pool(x), F.max_pool2d(x, 2, 2, ceil_mode=True))


# --- the comparison -------------------------------------------------------------------------


class Canvas(NamedTuple):
    """Probabilities (7, B, h, w), fused first, of B real images on one canvas."""

    truth: Tensor
    ours_double: Tensor
    ours: Tensor
    runtime: Tensor
    exported: Tensor  # (B, h, w), the fused map of our export in ONNX Runtime
    sizes: set[tuple[int, int]]


def real_images(count: int) -> list[np.ndarray]:
    """``count`` images, spread over all the data sets."""
    root = Path(os.environ["ANOMALY_U2NET_DATA"])
    found = []
    for folder in sorted(f for f in root.iterdir() if f.is_dir()):
        files = [f for f in sorted(folder.rglob("*")) if f.suffix in (".png", ".jpg", ".bmp")]
        found.append([f for f in files if "ground_truth" not in f.parts])
    each = -(-count // len(found))
    chosen = [files[place * len(files) // each] for place in range(each) for files in found]
    return [read_image(path) for path in chosen[:count]]


def any_size(path: Path) -> onnx.ModelProto:
    """The file, with the sizes of its inputs and outputs left open."""
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if axis != 1:
                dim.dim_param = f"{value.name}_{axis}"
    return model


def probabilities(model: torch.nn.Module, batch: Tensor) -> Tensor:
    with torch.no_grad():
        logits = model(batch)
    return torch.stack([logits.fused, *logits.sides]).sigmoid()[:, :, 0]


@pytest.fixture(scope="module")
def canvases(tmp_path_factory: pytest.TempPathFactory) -> list[Canvas]:
    data = os.environ.get("ANOMALY_U2NET_DATA")
    if not data:
        pytest.skip("ANOMALY_U2NET_DATA is not set: the real images and u2netp.onnx lie there")
    path = Path(data).parent / "weights" / "u2netp.onnx"
    if not path.is_file():
        pytest.skip("there is no weights/u2netp.onnx beside ANOMALY_U2NET_DATA")
    return compare(path, tmp_path_factory.mktemp("export") / "model.onnx")


def in_runtime(model: bytes | Path) -> Callable[[np.ndarray], Tensor]:
    """(B, 3, h, w) → all that the model says, as ONNX Runtime computes it, outputs first."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: torch.from_numpy(np.stack(session.run(None, {name: batch})))


def compare(path: Path, export: Path) -> list[Canvas]:
    public = any_size(path)
    graph = Graph(public)
    double = load_weights(u2netp().double(), path).eval()
    single = load_weights(u2netp(), path).eval()
    export_onnx(single, export)
    public_runtime, our_runtime = in_runtime(public.SerializeToString()), in_runtime(export)
    images = real_images(sum(CANVASES.values()))
    found = []
    for size, count in CANVASES.items():
        taken, images = images[:count], images[count:]
        inputs = [normalise(plan(i.shape[:2], "stretch", size=size).image(i)) for i in taken]
        batch = torch.from_numpy(np.stack(inputs))
        found.append(
            Canvas(
                truth=torch.stack(graph(batch))[:, :, 0],
                ours_double=probabilities(double, batch.double()),
                ours=probabilities(single, batch),
                runtime=public_runtime(batch.numpy())[:, :, 0],
                exported=our_runtime(batch.numpy())[0, :, 0].sigmoid(),
                sizes={i.shape[:2] for i in taken},
            )
        )
    return found


def furthest(pairs: list[tuple[Tensor, Tensor]]) -> float:
    return max((a.double() - b.double()).abs().max().item() for a, b in pairs)


def test_there_are_twenty_real_images_of_several_sizes(canvases: list[Canvas]) -> None:
    assert sum(c.truth.shape[1] for c in canvases) >= 20
    assert len(set.union(*(c.sizes for c in canvases))) >= 8
    spans = [(m.max() - m.min()).item() for c in canvases for m in c.truth[0]]
    assert sum(span > 0.5 for span in spans) >= 3  # the maps compared are not constant


def test_in_float64_all_seven_maps_are_those_of_the_public_graph(canvases: list[Canvas]) -> None:
    for c in canvases:
        assert c.ours_double.shape == c.truth.shape == (7, *c.truth.shape[1:])
        # Relative, so that the dark maps of images without a salient object count as well.
        torch.testing.assert_close(c.ours_double, c.truth, rtol=1e-9, atol=0)
    assert furthest([(c.ours_double, c.truth) for c in canvases]) < EXACT


def test_in_one_engine_our_export_says_what_the_public_file_says(canvases: list[Canvas]) -> None:
    assert furthest([(c.exported, c.runtime[0]) for c in canvases]) < SAME_ENGINE


def test_where_onnx_runtime_is_exact_enough_we_equal_it_directly(canvases: list[Canvas]) -> None:
    """On a few images it is itself further from float64 than the bar: there nobody can equal it."""
    rounding, apart = [], []
    for c in canvases:
        rounding.append((c.runtime[0].double() - c.truth[0]).abs().amax(dim=(1, 2)))
        apart.append((c.ours[0] - c.runtime[0]).abs().amax(dim=(1, 2)))
    comparable = torch.cat(apart)[torch.cat(rounding) <= TWO_ENGINES]
    assert len(comparable) >= 20
    assert comparable.max().item() <= TWO_ENGINES


def test_in_float32_we_round_no_worse_than_onnx_runtime(canvases: list[Canvas]) -> None:
    for maps in (slice(0, 1), slice(0, 7)):  # the fused map, and all
        ours = furthest([(c.ours[maps], c.truth[maps]) for c in canvases])
        runtime = furthest([(c.runtime[maps], c.truth[maps]) for c in canvases])
        assert ours < 2 * runtime
        assert runtime < 2e-4
        assert furthest([(c.ours[maps], c.runtime[maps]) for c in canvases]) < 1e-4
