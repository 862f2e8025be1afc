"""Defects made on good images, each with its exact mask; seeded, uint8 in and out.

`make_defect` draws one of `GENERATORS` by weight; a training run does so by its recipe's part
``synthesis``, and `synthesize` writes a data set of them.
"""

from __future__ import annotations

from anomaly_u2net.data.synthesis.foreground import foreground_mask
from anomaly_u2net.data.synthesis.generators import GENERATORS, Generator
from anomaly_u2net.data.synthesis.make import make_defect
from anomaly_u2net.data.synthesis.scene import Scene, Sources, open_sources

__all__ = [
    "GENERATORS",
    "Generator",
    "Scene",
    "Sources",
    "foreground_mask",
    "make_defect",
    "open_sources",
]
