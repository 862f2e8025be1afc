"""How the files of known data sets lie: a layout is two functions, and they are all in one dict."""

from __future__ import annotations

from anomaly_u2net.data.layouts.common import Layout
from anomaly_u2net.data.layouts.folders import BTAD, MVTEC, MVTEC_AD2
from anomaly_u2net.data.layouts.lists import REALIAD, VISA
from anomaly_u2net.data.layouts.pairs import DAGM, KSDD2, MAGNETIC_TILE, NEU_SEG

#: What a card names as its layout.
LAYOUTS: dict[str, Layout] = {
    "mvtec": MVTEC,
    "btad": BTAD,
    "dagm": DAGM,
    "ksdd2": KSDD2,
    "magnetic_tile": MAGNETIC_TILE,
    "mvtec_ad2": MVTEC_AD2,
    "neu_seg": NEU_SEG,
    "realiad": REALIAD,
    "visa": VISA,
}
