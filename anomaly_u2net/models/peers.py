"""Networks of segmentation_models.pytorch in our training, evaluation and export."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from anomaly_u2net.errors import InputError
from anomaly_u2net.models.sides import SideNet
from anomaly_u2net.recipe.part import hint
from anomaly_u2net.resources import require_extra
from anomaly_u2net.types import STRIDE, SideLogits

PREFIX = "smp/"
#: What BatchNorm counts its batches in: some files have it, and nothing here needs it.
COUNTER = "num_batches_tracked"


class Peer(SideNet):
    """A network of segmentation_models.pytorch; (B, 3, h, w) → one output (B, 1, h, w), no sides.

    Odd sizes are padded to a multiple of 32 by repeating the border, and cropped again.
    """

    def __init__(self, name: str, *, in_channels: int = 3, classes: int = 1) -> None:
        super().__init__()
        self.in_channels, self.stem = in_channels, "full"
        self.network = _make(name, in_channels=in_channels, classes=classes)

        self.sides, self.fuse = nn.ModuleList(), None

    def features(self, x: Tensor) -> list[Tensor]:
        """The logits themselves, (B, classes, h, w)."""
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
        logits: Tensor = self.network(x)
        return [logits[:, :, :height, :width]]

    def forward(self, x: Tensor) -> SideLogits:
        self._check(x)
        return SideLogits(self.features(x)[0], ())

    def state_from(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state of this network from that of a whole one, or of its encoder alone.

        The names of a whole one are ours or those of segmentation_models.pytorch. Raises
        `InputError` for weights that are neither (`with_encoder`).
        """
        if any(key.startswith("network.") for key in state):
            return dict(state)
        if any(key.startswith("segmentation_head.") for key in state):
            return {f"network.{key}": value for key, value in state.items()}
        return self.with_encoder(state)

    def with_encoder(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state of this network with the weights of its encoder alone taken from ``state``.

        They are found by their names, those of timm and torchvision, or, where a file has other
        names, by their order, if every shape and the last part of every name (weight, bias, …)
        agree; what the file has beyond them (a classifier) is left out. Raises `InputError` when
        they are not those of this encoder.
        """
        encoder = self.network.encoder.state_dict()
        wanted = [key for key in encoder if not key.endswith(COUNTER)]
        found = _by_name(encoder, state)
        if not found.keys() >= set(wanted):
            found = _in_order(wanted, state)
        unlike = [k for k in wanted if k not in found or found[k].shape != encoder[k].shape]
        if unlike:
            raise InputError(
                f"expected the weights of the whole network or of its encoder, {len(wanted)} "
                f"tensors by name or in order; {unlike[0]} is missing or of another shape"
            )
        return self.state_dict() | {f"network.encoder.{key}": found[key] for key in found}

    def heads(self) -> list[nn.Conv2d]:
        """The last convolution."""
        return [m for m in self.network.modules() if isinstance(m, nn.Conv2d)][-1:]


def whole_name(key: str, whole: Container[str]) -> str:
    """What a weight of a network of timm that gives features is called in the whole network.

    >>> whole_name("stages_0.blocks.weight", {"stages.0.blocks.weight"})
    'stages.0.blocks.weight'
    """
    return key if key in whole else re.sub(r"_(\d+)\.", r".\1.", key, count=1)


def _by_name(encoder: Iterable[str], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for key in encoder:
        # smp keeps an encoder of timm, one that gives features, as its "model"
        name = key if key in state else whole_name(key.removeprefix("model."), state)
        if name in state:
            found[key] = state[name]
    return found


def _in_order(wanted: Iterable[str], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    given = [name for name in state if not name.endswith(COUNTER)]
    return {
        key: state[name]
        for key, name in zip(wanted, given, strict=False)
        if key.rpartition(".")[2] == name.rpartition(".")[2]
    }


def _make(name: str, *, in_channels: int, classes: int) -> Any:
    require_extra("smp", "segmentation_models_pytorch")
    import segmentation_models_pytorch as smp

    decoder, _, encoder = name.removeprefix(PREFIX).partition("-")
    known = sorted(smp.MODEL_ARCHITECTURES_MAPPING)
    if decoder not in known:
        raise InputError(
            f"unknown model.arch {name!r}: expected smp/DECODER-ENCODER, as smp/unet-resnet18; "
            f"decoders are {', '.join(known)}"
        )
    if encoder.startswith("tu-tf_"):
        raise InputError(
            f"model.arch {name!r}: the padding of tf_ encoders depends on the image's size, and their "
            f"export to ONNX does not come to an end; take {encoder.replace('tu-tf_', 'tu-')!r}, of "
            "the same layers"
        )
    try:
        return smp.create_model(
            decoder, encoder, encoder_weights=None, in_channels=in_channels, classes=classes
        )
    except KeyError as error:
        nearest = hint(encoder, smp.encoders.get_encoder_names())
        raise InputError(f"unknown encoder {encoder!r} in model.arch {name!r}{nearest}") from error
    except (ValueError, RuntimeError) as error:  # a pair that does not go together
        reason = " ".join(str(error).split())
        raise InputError(
            f"segmentation_models_pytorch cannot make model.arch {name!r} ({reason}): "
            "take another encoder or decoder"
        ) from error
