"""The loaders against anomalib's, which were written by others: the same files on the same side."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anomaly_u2net.data.index import index_dataset

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what it and its own dependencies warn of on import
    pytest.importorskip("anomalib")
    import pandas
    from anomalib.data.datasets.image import btech, mpdd, mvtec_loco, mvtecad, mvtecad2, realiad

Miniature = Callable[[dict[str, int]], Path]

MVTEC = {
    "train/good/000.png": 9,
    "test/good/000.png": 9,
    "test/crack/000.png": 9,
    "test/crack/001.png": 9,
    "ground_truth/crack/000_mask.png": 255,
    "ground_truth/crack/001_mask.png": 255,
}
BTAD = {
    "train/ok/0000.bmp": 9,
    "test/ok/0000.bmp": 9,
    "test/ko/0001.bmp": 9,
    "ground_truth/ko/0001.png": 255,
}
LOCO = {
    "train/good/000.png": 9,
    "validation/good/000.png": 9,
    "test/good/000.png": 9,
    "test/logical_anomalies/000.png": 9,
    "ground_truth/logical_anomalies/000/000.png": 255,
    "ground_truth/logical_anomalies/000/001.png": 255,
}
AD2 = {
    "train/good/000_regular.png": 9,
    "validation/good/000_regular.png": 9,
    "test_public/good/000_regular.png": 9,
    "test_public/bad/000_regular.png": 9,
    "test_public/ground_truth/bad/000_regular_mask.png": 255,
}


def loco(root: Path) -> Any:
    """Theirs puts lists into a column of strings, which pandas 3 refuses unless it is told not to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pandas.option_context("future.infer_string", False):
            return mvtec_loco.make_dataset(root)


@pytest.mark.parametrize(
    ("card", "category", "files", "make"),
    [
        ("mvtec_ad", "tile", MVTEC, lambda root: mvtecad.make_mvtec_ad_dataset(root)),
        ("mpdd", "tubes", MVTEC, lambda root: mpdd.make_mpdd_dataset(root)),
        ("btad", "01", BTAD, lambda root: btech.make_btech_dataset(root)),
        ("mvtec_loco", "pushpins", LOCO, lambda root: loco(root)),
        ("mvtec_ad2", "can", AD2, lambda root: mvtecad2.make_mvtec2_dataset(root)),
    ],
)
def test_the_same_images_masks_and_sides(
    miniature: Miniature,
    card: str,
    category: str,
    files: dict[str, int],
    make: Callable[[Path], Any],
) -> None:
    root = miniature({f"{category}/{name}": value for name, value in files.items()})
    ours = {
        (str(r.path), r.split, r.defective, str(r.mask) if r.mask else None)
        for r in index_dataset(root, card=card)
    }
    assert ours == rows_of(make(root / category))


def test_real_iad_has_the_same_images_masks_and_sides(miniature: Miniature) -> None:
    views = ["OK/S0001/1.jpg", "OK/S0002/2.jpg", "NG/BX/S0001/1.jpg", "NG/BX/S0001/2.jpg"]
    mask = "NG/BX/S0001/1_mask.png"
    root = miniature({f"realiad_256/mint/{name}": 9 for name in (*views, mask)})
    items: list[dict[str, str | None]] = [
        {"anomaly_class": "OK", "image_path": view, "mask_path": None} for view in views
    ]
    items[2] |= {"anomaly_class": "BX", "mask_path": mask}  # not seen from the other side
    (root / "realiad_jsons" / "realiad_jsons").mkdir(parents=True)
    text = json.dumps({"train": items[:1], "test": items[1:]})
    (root / "realiad_jsons" / "realiad_jsons" / "mint.json").write_text(text)
    theirs = realiad.RealIADDataset(root, category="mint", resolution=256).samples
    assert rows_of(theirs) == {
        (str(r.path), r.split, r.defective, str(r.mask) if r.mask else None)
        for r in index_dataset(root, card="real_iad")
    }


def test_btad_product_3_has_masks_that_anomalib_does_not_find(miniature: Miniature) -> None:
    files = {name.replace("0001.png", "0001.bmp"): value for name, value in BTAD.items()}
    root = miniature({f"03/{name}": value for name, value in files.items()})
    [theirs] = [Path(row.mask_path) for row in btech.make_btech_dataset(root / "03").itertuples()
                if row.label_index]  # fmt: skip
    assert theirs == root / "03" / "ground_truth" / "ko" / "0001.png"
    assert not theirs.exists()
    [ours] = [r.mask for r in index_dataset(root, card="btad") if r.mask]
    assert ours == theirs.with_suffix(".bmp")


def rows_of(theirs: Any) -> set[tuple[str, str, bool, str | None]]:
    """(image, side, defective, mask) of each of their rows."""
    return {
        (
            str(Path(row.image_path)),
            {"val": "calibration"}.get(row.split, row.split),
            bool(row.label_index),
            masks(row.mask_path) if row.label_index else None,
        )
        for row in theirs.itertuples()
    }


def masks(path: Any) -> str:
    """Our name for their mask: the file, or the folder of a list of files."""
    return str(Path(path[0]).parent if isinstance(path, list) else Path(path))
