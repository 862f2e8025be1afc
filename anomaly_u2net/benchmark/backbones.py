"""Backbones of anomalib's models with weights that are here: of a Python package, or a file."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch

from anomaly_u2net.errors import ModelFileError
from anomaly_u2net.models.packaged import packaged_weights
from anomaly_u2net.models.peers import whole_name

#: Backbones whose ImageNet weights come as a Python package (models/packaged.py):
#: name → architecture in timm, mean and std that it was trained with (127 and 128 of 255)
OFFLINE = {"efficientnet-lite0": ("tf_efficientnet_lite0", (127 / 255, 128 / 255))}


def register_backbone(weights: str, arch: str) -> str:
    """The name under which timm makes the backbone with local weights.

    weights: a name of `OFFLINE`, which says the architecture, or a file for ``arch``. Raises
    `ModelFileError` for a file that is not there and, when the backbone is made, for one that
    does not fit; `MissingExtra` without the package.
    """
    import timm
    from timm.models import register_model

    if weights in OFFLINE:
        arch, _ = OFFLINE[weights]
        packaged_weights(weights)  # it says what to install
        name = weights.replace("-", "_") + "_offline"
    else:
        path = _path(weights)
        if not path.is_file():
            raise ModelFileError(f"{path}: no such weights file (weights): check the path")
        name = f"{arch.partition('.')[0]}_local"

    def made(pretrained: bool = False, **options: Any) -> Any:  # noqa: ARG001
        options.pop("pretrained_cfg", None)
        options.pop("pretrained_cfg_overlay", None)
        model = timm.create_model(arch, pretrained=False, **options)
        whole = timm.create_model(arch, pretrained=False).state_dict()
        state = load_state(weights, whole)
        model.load_state_dict({key: state[whole_name(key, whole)] for key in model.state_dict()})
        return model

    made.__name__ = name
    made.__module__ = __name__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # made once per model, under one name
        register_model(made)
    return name


def load_state(weights: str, whole: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights under the names of timm; a package's own names come in the same order.

    whole: the state of the architecture, for names and shapes.
    """
    packaged = packaged_weights(weights)
    if packaged is not None:
        values = list(torch.load(packaged, map_location="cpu", weights_only=True).values())
        state = dict(zip(whole, values, strict=True))
    else:
        state = torch.load(_path(weights), map_location="cpu", weights_only=True)
    wrong = [k for k, v in whole.items() if k not in state or state[k].shape != v.shape]
    if wrong:
        raise ModelFileError(
            f"{weights}: expected the weights of that backbone under the names of timm, "
            f"{wrong[0]} is missing or of another shape"
        )
    return state


def normalise_as(pre_processor: Any, weights: str) -> None:
    """Give the images the mean and spread that the backbone was trained with."""
    from torchvision.transforms.v2 import Normalize

    if weights not in OFFLINE:
        return
    mean, std = OFFLINE[weights][1]
    for step in pre_processor.transform.transforms:
        if isinstance(step, Normalize):
            step.mean, step.std = [mean] * 3, [std] * 3


def _path(weights: str) -> Path:
    return Path(os.path.expandvars(weights)).expanduser()
