"""What is installed: the YAML files that ship with the package, and optional dependencies."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Literal

from anomaly_u2net.errors import AnomalyU2NetError, MissingExtra

PACKAGE = Path(__file__).resolve().parent


def shipped(kind: Literal["recipes", "datasets"]) -> Path:
    """The folder of the shipped YAML files of one kind.

    In an installed wheel that is ``anomaly_u2net/_shipped/<kind>``; in a checkout it is the
    folder ``<kind>`` of the repository, beside the package. Raises ``AnomalyU2NetError`` when
    neither is there.

    >>> shipped("datasets").name
    'datasets'
    """
    installed = PACKAGE / "_shipped" / kind
    if installed.is_dir():
        return installed
    # The project file tells a checkout from site-packages, where a folder "datasets" is
    # another distribution's.
    checkout = PACKAGE.parent / kind
    if (PACKAGE.parent / "pyproject.toml").is_file() and checkout.is_dir():
        return checkout
    raise AnomalyU2NetError(
        f"expected the shipped {kind} in {installed} or, in a checkout, in {checkout}; "
        "found neither: the installation is incomplete, reinstall anomaly_u2net"
    )


def require_extra(extra: str, *packages: str) -> None:
    """Import ``packages``, or raise `MissingExtra`, which says what to install.

    >>> require_extra("train", "numpy", "no_such_package")
    Traceback (most recent call last):
    ...
    anomaly_u2net.errors.MissingExtra: no_such_package is not installed: pip install ...
    """
    for package in packages:
        try:
            import_module(package)
        except ModuleNotFoundError as error:
            if error.name != package:
                raise
            raise MissingExtra(extra, package) from None
