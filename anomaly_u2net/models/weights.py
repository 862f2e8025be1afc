"""Weights in and out: our safetensors, the authors' .pth files, BatchNorm-folded ONNX files.

No format here can run code: .pth files are read with ``weights_only``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from anomaly_u2net.errors import InputError, MissingExtra, ModelFileError, UnfitWeightsError
from anomaly_u2net.files import write_aside
from anomaly_u2net.models.blocks import RSU, ConvBNReLU
from anomaly_u2net.models.peers import COUNTER, Peer
from anomaly_u2net.models.sides import SideNet
from anomaly_u2net.models.u2net import U2Net, u2netp

Network = TypeVar("Network", bound=SideNet)

#: Encoder stages of U²-Net†.
P_STAGES = 6

#: What decides which weights a model has.
CHECK = "check model.arch, block, repeats, conv, stem, width, depth, mid, fuse and deep_supervision"

#: What the weights of side outputs and their fusion begin with.
HEADS = ("sides.", "fuse.")

SUFFIXES = (".safetensors", ".pth", ".pt", ".onnx")


def load_weights(model: Network, path: str | Path, *, start: bool = False) -> Network:
    """Load ``path`` into ``model`` in place and return it.

    ``.safetensors``: written by `save_weights`. ``.pth``/``.pt``: a plain state dict in our naming
    or in that of the authors' public code. ``.onnx``: a U²-Net whose BatchNorm is folded into the
    convolutions; BatchNorm becomes neutral, so the output is the file's output.

    A model that works at half the image's size (``stem``) takes the weights of one that sees all of
    it. What it says is then what that network says on the image averaged over 2 × 2 pixels: with
    ``unshuffle2_learned`` all outputs, each value for a 2 × 2 square; with ``unshuffle2`` only the
    native sides, as they are resized to the whole size in one step. `u2net_fast` takes its four
    stages from U²-Net†'s six. A network of segmentation_models.pytorch takes what that library
    saves, too, or weights of its encoder alone, and keeps its decoder as it is.

    start: the weights are where a training starts. Then a network without side outputs, or without a
    learned fusion, leaves those of the file out; otherwise they do not fit.

    Raises `ModelFileError` for a missing, damaged or unsafe file, `UnfitWeightsError`, which is one,
    for weights of another network.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path}: no such weights file")
    if path.suffix not in SUFFIXES:
        raise ModelFileError(f"{path}: expected a {', '.join(SUFFIXES)} file, got {path.suffix!r}")
    if path.suffix == ".onnx":
        _load_folded_onnx(model, path, start=start)
        return model
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pth(path)
    if any(key.startswith("stage1.") for key in state) and _is_papers(model):
        assert isinstance(model, U2Net)
        is_p_or_cut = model.taken or len(model.encoder) == P_STAGES  # whatever its outputs are
        state = from_authors_keys(state, u2netp() if is_p_or_cut else model)
    if isinstance(model, Peer):
        try:
            state = model.state_from(state)
        except InputError as error:
            raise UnfitWeightsError(f"{path}: {error}") from error
    state = _for_design(state, model, start=start)
    _fit(model, state, path)
    model.load_state_dict(state)
    return model


def save_weights(model: nn.Module, path: str | Path) -> None:
    """Write the state dict as safetensors, whole or not at all."""
    from safetensors.torch import save_file

    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    with write_aside(path) as aside:
        save_file(state, aside)


def to_authors_keys(state: Mapping[str, Tensor], model: U2Net) -> dict[str, Tensor]:
    """Our state dict under the names of the authors' public code (``stage1.rebnconvin.conv_s1…``)."""
    return {_authors_key(key, model): value for key, value in state.items()}


def from_authors_keys(state: Mapping[str, Tensor], model: U2Net) -> dict[str, Tensor]:
    """The authors' state dict under our names; keys that have no counterpart are kept as they are."""
    ours = {_authors_key(key, model): key for key in model.state_dict()}
    return {ours.get(key, key): value for key, value in state.items()}


def reestimate_batchnorm(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give neutral BatchNorm layers real statistics without changing the network's output.

    A folded network trains badly: in training mode its neutral BatchNorm would suddenly normalise
    every feature. Each layer's input mean m and variance v are measured over ``batches`` (float32
    (B, C, h, w)) in evaluation mode; then running mean and variance become m and v, the scale
    √(v+ε) and the shift m, multiplied into what the layer did before. The evaluation output stays
    the same and the training output starts close to it. Raises `InputError` without batches.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    sums = {
        layer: [torch.zeros(layer.num_features, dtype=torch.float64) for _ in range(2)]
        for layer in layers
    }
    counts = dict.fromkeys(layers, 0)

    def record(layer: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].detach().double().cpu()
        sums[layer][0] += x.sum(dim=(0, 2, 3))
        sums[layer][1] += (x * x).sum(dim=(0, 2, 3))
        counts[layer] += x.numel() // x.shape[1]

    hooks = [layer.register_forward_pre_hook(record) for layer in layers]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                model(batch)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)
    if not all(counts.values()):
        raise InputError("BatchNorm statistics need at least one batch of images, got none")
    for layer in layers:
        _adopt_statistics(layer, *(total / counts[layer] for total in sums[layer]))


def _adopt_statistics(layer: nn.BatchNorm2d, mean: Tensor, square: Tensor) -> None:
    if layer.running_mean is None or layer.running_var is None:
        raise ModelFileError("expected BatchNorm layers that keep running statistics")
    mean, square = mean.to(layer.weight.device), square.to(layer.weight.device)
    variance = (square - mean * mean).clamp_min(0)
    with torch.no_grad():
        slope = layer.weight.double() / (layer.running_var.double() + layer.eps).sqrt()
        offset = layer.bias.double() - slope * layer.running_mean.double()
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(variance)
        layer.weight.copy_(slope * (variance + layer.eps).sqrt())
        layer.bias.copy_(offset + slope * mean)


def _is_papers(model: SideNet) -> bool:
    """Whether it is a U of single RSUs: only those have counterparts in the authors' files."""
    return isinstance(model, U2Net) and all(
        isinstance(stage, RSU) for stage in (*model.encoder, *model.decoder)
    )


def _authors_key(key: str, model: U2Net) -> str:
    if match := re.fullmatch(r"sides\.(\d+)\.(.+)", key):
        return f"side{int(match[1]) + 1}.{match[2]}"
    if key.startswith("fuse."):
        return key.replace("fuse.", "outconv.")
    match = re.fullmatch(r"(encoder|decoder)\.(\d+)\.(entry|encoder|decoder)\.(.+)", key)
    if match is None:
        return key
    part, index = match[1], int(match[2])
    stages = len(model.encoder)
    stage = f"stage{index + 1}" if part == "encoder" else f"stage{stages - 1 - index}d"
    rsu = getattr(model, part)[index]
    rest = match[4]
    if match[3] == "entry":
        name = "rebnconvin"
    else:
        level, rest = rest.split(".", 1)
        number = int(level) + 1 if match[3] == "encoder" else rsu.height - 1 - int(level)
        name = f"rebnconv{number}" + ("d" if match[3] == "decoder" else "")
    return f"{stage}.{name}." + rest.replace("conv.", "conv_s1.").replace("bn.", "bn_s1.")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ModelFileError(f"{path}: not a whole safetensors file: {error}") from error


def _read_pth(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelFileError(
            f"{path}: expected a plain state dict; refused, because the file is damaged or holds "
            f"objects that could run code ({reason})"
        ) from error
    if not isinstance(state, dict):
        raise ModelFileError(f"{path}: expected a state dict, got {type(state).__name__}")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ModelFileError(
                f"{path}: expected a state dict of names and tensors, got a {type(value).__name__} "
                f"under {key!r}: save the model's state_dict() alone"
            )
    return {key.removeprefix("module."): value for key, value in state.items()}


def _load_folded_onnx(model: SideNet, path: Path, *, start: bool) -> None:
    try:
        import onnx
        from onnx import numpy_helper
    except ModuleNotFoundError:
        raise MissingExtra("train", "onnx") from None
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(path).graph
        arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        raise ModelFileError(f"{path}: not a whole ONNX file: {error}") from error
    tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    # Both graphs run stage by stage, so the n-th convolution there is the n-th one here.
    if any(node.op_type == "BatchNormalization" for node in graph.node):
        raise ModelFileError(
            f"{path}: its BatchNorm is not folded: give the .pth, or export with folding"
        )
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    names = _convolutions(model)
    if len(convolutions) > len(names) and _is_papers(model):
        whole = _convolutions(u2netp())
        if len(convolutions) == len(whole) and _is_cut(names, whole, model, start=start):
            names = whole
    if len(convolutions) != len(names):
        raise UnfitWeightsError(
            f"{path}: expected {len(names)} convolutions, got {len(convolutions)}: "
            f"the file is of another architecture, or of other blocks: {CHECK}"
        )
    state = {}
    for name, node in zip(names, convolutions, strict=True):
        if any(key not in tensors for key in node.input[1:]):
            raise ModelFileError(f"{path}: convolution {node.name} has no stored weight and bias")
        weight, *bias = (tensors[key] for key in node.input[1:])
        state[f"{name}.weight"] = weight
        state[f"{name}.bias"] = bias[0] if bias else weight.new_zeros(len(weight))  # 0: left out
    state = {**model.state_dict(), **_for_design(state, model, start=start)}
    _fit(model, state, path)
    model.load_state_dict(state)
    for module in model.modules():
        if isinstance(module, ConvBNReLU):
            module.bn.reset_parameters()  # mean 0, variance 1, scale 1, shift 0
            nn.init.constant_(module.bn.weight, (1 + module.bn.eps) ** 0.5)


def _convolutions(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]


def _is_cut(names: list[str], whole: list[str], model: SideNet, *, start: bool) -> bool:
    """Whether a network of the convolutions ``names`` is U²-Net, or U²-Net† (``whole``), cut down."""
    lacking = [name for name in whole if name not in names]
    heads_alone = start and all(f"{name}.".startswith(HEADS) for name in lacking)
    return heads_alone or bool(getattr(model, "taken", None))


def _for_design(state: Mapping[str, Tensor], model: SideNet, *, start: bool) -> dict[str, Tensor]:
    """Weights of U²-Net† for a cut of it, of a network with a full stem for one at half size.

    With ``start``, outputs and a fusion that the model does not have are left out. Other weights stay
    as they are.
    """
    adapted = dict(state)
    if (
        isinstance(model, U2Net)
        and model.taken
        and f"encoder.{P_STAGES - 1}.entry.conv.weight" in state
    ):
        adapted = _cut(adapted, model.taken)
    if model.stem != "full":
        adapted = {key: _widened(key, value, model) for key, value in adapted.items()}
    if not start:
        return adapted
    wanted = model.state_dict()
    return {k: value for k, value in adapted.items() if k in wanted or not k.startswith(HEADS)}


def _cut(state: Mapping[str, Tensor], taken: tuple[int, ...]) -> dict[str, Tensor]:
    """The stages ``taken`` of U²-Net†, their outputs, and the fusion of those."""
    encoder = {f"encoder.{old}.": f"encoder.{new}." for new, old in enumerate(taken)}
    decoder = {
        f"decoder.{P_STAGES - 2 - old}.": f"decoder.{len(taken) - 2 - new}."
        for new, old in enumerate(taken[:-1])
    }
    sides = {f"sides.{old}.": f"sides.{new}." for new, old in enumerate(taken)}
    names = encoder | decoder | sides
    kept = {}
    for key, value in state.items():
        prefix = next((old for old in names if key.startswith(old)), None)
        if prefix is not None:
            kept[names[prefix] + key.removeprefix(prefix)] = value
    if "fuse.weight" in state:  # with model.fuse mean there is none
        kept["fuse.weight"] = state["fuse.weight"][:, list(taken)]
        kept["fuse.bias"] = state["fuse.bias"]
    return kept


def _widened(key: str, value: Tensor, model: SideNet) -> Tensor:
    """One tensor of a network with a full stem, for a network at half size; unchanged if it fits.

    Each of an image's four unshuffled pixels gets a quarter of the first convolution's weight; each
    of the four pixels that an output says gets the output's whole weight, and is fused by itself.
    """
    wanted = model.state_dict().get(key)
    if wanted is None or wanted.shape == value.shape:
        return value
    if key == "fuse.weight":
        return torch.kron(value, torch.eye(4)[:, :, None, None])
    if key == "fuse.bias" or key.startswith("sides."):
        return value.repeat_interleave(4, dim=0)
    if value.ndim == 4 and 4 * value.shape[1] == wanted.shape[1] == 4 * model.in_channels:
        return value.repeat_interleave(4, dim=1) / 4
    return value


def _fit(model: SideNet, state: Mapping[str, Tensor], path: Path) -> None:
    """Say which keys or shapes do not fit, instead of a page of them."""
    wanted = model.state_dict()
    missing = [k for k in wanted if k not in state and not k.endswith(COUNTER)]
    extra = [k for k in state if k not in wanted]
    shapes = [k for k in wanted if k in state and state[k].shape != wanted[k].shape]
    for what, keys in (("missing", missing), ("unknown", extra)):
        if keys:
            raise UnfitWeightsError(
                f"{path}: does not fit the model: {len(keys)} keys {what}, the first is {keys[0]!r}: "
                f"{CHECK}"
            )
    if shapes:
        key = shapes[0]
        raise UnfitWeightsError(
            f"{path}: does not fit the model: {key!r} has shape {tuple(state[key].shape)}, "
            f"expected {tuple(wanted[key].shape)} ({len(shapes)} such keys): {CHECK}"
        )
