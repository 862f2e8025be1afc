"""Lists of masks that a data set's authors trained on, as they publish them."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

from anomaly_u2net.errors import DatasetError

#: What the list of N masks is called: in the authors' repository, and in code of others.
NAMES = ("split_{shots}.pyb", "split_weakly_{shots}.pyb")


def listed_masks(folder: Path, shots: int) -> set[str]:
    """The stems of the ``shots`` training images whose masks a list in ``folder`` gives away.

    The lists of KSDD2 (Božič et al., Computers in Industry 129, 2021) are Python pickles: a pair
    of lists for train and test, of pairs (number of the image, whether its mask may be used), where
    good images may be marked as well. Nothing in such a file is run: plain values alone are read.

    Raises ``DatasetError`` when no list is there, or it is not of that kind.
    """
    files = [folder / name.format(shots=shots) for name in NAMES]
    for file in files:
        if file.is_file():
            return _read(file)
    raise DatasetError(
        f"{folder}: expected {' or '.join(file.name for file in files)}, the authors' list for "
        f"listed-{shots}, found neither; put it there, or use kshot-{shots}, which chooses as many"
    )


def _read(file: Path) -> set[str]:
    try:
        train, _ = _PlainValues(io.BytesIO(file.read_bytes())).load()
        return {str(name) for name, usable in train if usable}
    except Exception as error:  # a damaged pickle can raise anything
        raise DatasetError(
            f"{file}: expected two pickled lists of pairs (image, whether its mask may be used), "
            f"could not read them: {error}; copy the file again from the authors' repository"
        ) from error


class _PlainValues(pickle.Unpickler):
    """Numbers, strings, lists and tuples; anything that would import or call is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it would load {module}.{name}")
