"""Every error this package raises on purpose, as one tree.

::

    AnomalyU2NetError
    ├── InputError (ValueError)     something handed in cannot be used
    │   ├── ImageError              a file is not an image that can be read
    │   ├── MaskError               a mask is missing, unreadable or of another size
    │   ├── DatasetError            a folder does not have the layout, or lacks images
    │   ├── RecipeError             a recipe has an unknown key, a wrong type or value
    │   ├── ModelFileError          a model file is missing, unsafe, damaged or altered
    │   │   └── UnfitWeightsError   whole weights, but those of another network
    │   └── MapError                an anomaly map or a mask array has a wrong shape or values
    ├── CalibrationError            the held-out images cannot support what was asked
    ├── LeakError                   test images were about to influence what is tested
    ├── NotComputable               a number is undefined for these data ("n/a" in tables)
    ├── CollapseError               training reached a constant or non-finite state
    ├── BusyError                   another process holds the output folder
    └── MissingExtra (ImportError)  an optional dependency is not installed

A message says what was expected, what came, and what to do.
"""

from __future__ import annotations


class AnomalyU2NetError(Exception):
    """Base of every error raised on purpose by this package."""


class InputError(AnomalyU2NetError, ValueError):
    """Something handed in cannot be used."""


class ImageError(InputError):
    """A file is not an image that can be read."""


class MaskError(InputError):
    """A mask is missing, unreadable, or does not fit its image."""


class DatasetError(InputError):
    """A folder does not have the expected layout, or lacks images."""


class RecipeError(InputError):
    """A recipe has an unknown key, a wrong type or a value out of range."""


class ModelFileError(InputError):
    """A model file is missing, unsafe to load, damaged, or altered."""


class UnfitWeightsError(ModelFileError):
    """Whole weights, but those of another network."""


class MapError(InputError):
    """An anomaly map or mask array has a wrong shape, type or values."""


class CalibrationError(AnomalyU2NetError):
    """The held-out images cannot support the promise that was asked for."""


class LeakError(AnomalyU2NetError):
    """Test images were about to influence what is tested on them."""


class NotComputable(AnomalyU2NetError):
    """A number is undefined for these data; tables show it as ``n/a``."""


class CollapseError(AnomalyU2NetError):
    """Training reached a state it cannot recover from (a non-finite loss)."""


class BusyError(AnomalyU2NetError):
    """Another process is writing to the same output folder."""


class MissingExtra(AnomalyU2NetError, ImportError):
    """An optional dependency is not installed.

    >>> raise MissingExtra("train", "torch")
    Traceback (most recent call last):
    ...
    anomaly_u2net.errors.MissingExtra: torch is not installed: pip install 'anomaly_u2net[train]'
    """

    def __init__(self, extra: str, package: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'anomaly_u2net[{extra}]'")
        self.extra, self.package = extra, package

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str]]:
        return type(self), (self.extra, self.package)  # so that it comes back from a worker process
