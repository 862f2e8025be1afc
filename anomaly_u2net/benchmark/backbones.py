"""Backbones of anomalib's models with weights that are here, of a Python package or a file.

What is not here is not downloaded.
"""

from __future__ import annotations

import errno
import os
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from anomaly_u2net.benchmark.methods import AnomalibMethod
from anomaly_u2net.errors import InputError, ModelFileError
from anomaly_u2net.models.packaged import packaged_weights
from anomaly_u2net.models.peers import whole_name
from anomaly_u2net.recipe.part import expanded, hint

#: Backbones whose ImageNet weights come as a Python package (models/packaged.py):
#: name → architecture in timm, mean and std that it was trained with (127 and 128 of 255)
OFFLINE = {"efficientnet-lite0": ("tf_efficientnet_lite0", (127 / 255, 128 / 255))}


@contextmanager
def local_backbone(weights: str, arch: str) -> Iterator[str]:
    """Meanwhile timm gives its pretrained ``arch`` the local weights; yields its name there.

    It keeps its own name, because models look at it: for its widths, say, or whether they know it.
    One that is not to be pretrained, as a student, gets no weights.
    weights: a name of `OFFLINE`, which says the architecture, or a file for ``arch``. Raises
    `ModelFileError` for a file that is not there and, when the backbone is made, for one that
    does not fit; `MissingExtra` without the package; `InputError` for an architecture that timm
    does not have and, at the end, for weights that nothing was made with.
    """
    from timm.models import _registry

    if weights in OFFLINE:
        arch, _ = OFFLINE[weights]
        packaged_weights(weights)  # it says what to install
    elif not (path := _path(weights)).is_file():
        raise ModelFileError(f"{path}: no such weights file (weights): check the path")
    makers = _registry._model_entrypoints
    name = _registry.get_arch_name(arch)
    if name not in makers:
        raise InputError(
            f"timm has no backbone {name!r} to give the weights {weights} to{hint(name, makers)}"
        )
    maker, made = makers[name], 0

    def local(pretrained: bool = False, **options: Any) -> Any:
        nonlocal made
        model = maker(pretrained=False, **options)
        # Made for a student too: what is drawn at random after it stays what it was.
        whole = maker(pretrained_cfg=options.get("pretrained_cfg")).state_dict()
        if pretrained:
            state = load_state(weights, whole)
            wanted = model.state_dict()
            model.load_state_dict({key: state[whole_name(key, whole)] for key in wanted})
            made += 1
        return model

    makers[name] = local
    try:
        yield arch
    finally:
        makers[name] = maker
    if not made:
        raise InputError(
            f"{weights}: expected a pretrained backbone {name} of timm to give these weights to, "
            f"the model made none: remove weights, or pre_trained: false from the arguments"
        )


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


def with_weights(method: AnomalibMethod, make: Callable[[], Any]) -> Any:
    """What ``make`` returns; weights that it cannot find are said to be missing."""
    try:
        with _offline():
            return make()
    except OSError as error:  # no file, no network: what hubs and downloads raise
        if error.errno not in (None, errno.ENOENT):  # a full disk, say
            raise
        instead = (
            f"; for its backbone, if it has one, give the method weights: PATH or one of "
            f"{', '.join(OFFLINE)}"
        )
        raise ModelFileError(
            f"weights for {method.anomalib} that are not here ({one_line(error)}): put them where "
            f"anomalib looks{instead if method.weights is None else ''}"
        ) from error


def one_line(error: Exception) -> str:
    """The beginning of its text, in one line."""
    return " ".join(str(error).split()).rstrip(".")[:200]


@contextmanager
def _offline() -> Iterator[None]:
    """Downloads fail at once, unless HF_HUB_OFFLINE is 0: those of hubs, and plain ones of URLs."""
    if os.environ["HF_HUB_OFFLINE"] == "0":
        yield
        return
    from huggingface_hub import constants  # it reads the variable once, when it is imported

    opener = urllib.request.OpenerDirector()
    opener.add_handler(_Refused())
    urllib.request.install_opener(opener)
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        urllib.request.install_opener(urllib.request.build_opener())


class _Refused(urllib.request.BaseHandler):
    def default_open(self, request: urllib.request.Request) -> None:
        raise OSError(f"{request.full_url} is not downloaded unless HF_HUB_OFFLINE is set to 0")


def _path(weights: str) -> Path:
    return expanded(weights, key="weights", instead="name a file", error=ModelFileError)
