"""Miniatures of MVTec LOCO, MPDD, BTAD and MVTec AD 2 as their archives unpack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from anomaly_u2net.data.images import read_sample
from anomaly_u2net.data.index import index_dataset
from anomaly_u2net.data.protocols import split_by_protocol
from anomaly_u2net.data.split_files import read_split, write_split
from anomaly_u2net.errors import DatasetError, MaskError

Rows = Callable[[Path, str], list[tuple[str, ...]]]
Miniature = Callable[[dict[str, int]], Path]

LOCO = {
    "pushpins/train/good/000.png": 9,
    "pushpins/validation/good/000.png": 9,
    "pushpins/test/good/000.png": 9,
    "pushpins/test/logical_anomalies/000.png": 9,
    "pushpins/test/structural_anomalies/000.png": 9,
    "pushpins/ground_truth/logical_anomalies/000/000.png": 255,
    "pushpins/ground_truth/logical_anomalies/000/001.png": 240,
    "pushpins/ground_truth/structural_anomalies/000/000.png": 234,
}


def test_loco_has_a_folder_of_masks_an_image(
    miniature: Miniature, rows: Rows, tmp_path: Path
) -> None:
    root = miniature(LOCO)
    truth = "pushpins/ground_truth"
    assert rows(root, "mvtec_loco") == [
        ("pushpins", "train", "good", "pushpins/train/good/000.png", "", ""),
        ("pushpins", "calibration", "good", "pushpins/validation/good/000.png", "", ""),
        ("pushpins", "test", "good", "pushpins/test/good/000.png", "", ""),
        *(
            ("pushpins", "test", kind, f"pushpins/test/{kind}/000.png", f"{truth}/{kind}/000", "")
            for kind in ("logical_anomalies", "structural_anomalies")
        ),
    ]
    # The mask is the union of the files, also after the way through a split's file.
    second = np.zeros((8, 8), np.uint8)
    second[6:] = 254
    Pillow.fromarray(second).save(root / truth / "logical_anomalies" / "000" / "001.png")
    records = index_dataset(root, card="mvtec_loco")
    write_split(tmp_path / "split.csv", records, root=root)
    assert read_split(tmp_path / "split.csv", root, check_bytes=True) == records
    [logical] = [r for r in records if r.label == "logical_anomalies"]
    assert int(read_sample(logical).mask.sum()) == 16 + 2 * 8


def test_a_mask_folder_must_hold_masks_of_one_size(miniature: Miniature) -> None:
    root = miniature(LOCO)
    folder = root / "pushpins" / "ground_truth" / "logical_anomalies" / "000"
    Pillow.fromarray(np.zeros((8, 9), np.uint8)).save(folder / "001.png")
    [logical] = [r for r in index_dataset(root, card="mvtec_loco") if "logical" in r.label]
    with pytest.raises(MaskError, match=r"001.png: expected the size of its image, 8 x 8"):
        read_sample(logical)
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(MaskError, match="expected mask files in this folder, found none"):
        read_sample(logical)


def test_mpdd_is_as_mvtec(miniature: Miniature, rows: Rows) -> None:
    root = miniature(
        {
            "tubes/train/good/000.png": 9,
            "tubes/test/good/000.png": 9,
            "tubes/test/anomalous/000.png": 9,
            "tubes/ground_truth/anomalous/000_mask.png": 255,
        }
    )
    mask = "tubes/ground_truth/anomalous/000_mask.png"
    assert ("tubes", "test", "anomalous", "tubes/test/anomalous/000.png", mask, "") in rows(
        root, "mpdd"
    )


BTAD = {
    "01/train/ok/0000.bmp": 9,
    "01/test/ok/0000.bmp": 9,
    "01/test/ko/0001.bmp": 9,
    "01/ground_truth/ko/0001.png": 255,
    "03/train/ok/0000.bmp": 9,
    "03/test/ok/0000.bmp": 9,
    "03/test/ko/0001.bmp": 9,
    "03/ground_truth/ko/0001.bmp": 255,
}


def test_btad_calls_good_images_ok(miniature: Miniature, rows: Rows) -> None:
    root = miniature(BTAD)
    found = rows(root, "btad")
    assert ("01", "test", "ko", "01/test/ko/0001.bmp", "01/ground_truth/ko/0001.png", "") in found
    assert ("03", "test", "ko", "03/test/ko/0001.bmp", "03/ground_truth/ko/0001.bmp", "") in found
    assert [row[2] for row in found] == ["good", "ko", "good"] * 2
    (root / "03" / "ground_truth" / "ko" / "0001.bmp").unlink()
    with pytest.raises(
        MaskError, match=r"'03': .* 1 have none: test/ko/0001.bmp; looked for .*/ko/"
    ):
        index_dataset(root, card="btad")


def ad2(root: str = "can") -> dict[str, int]:
    public = f"{root}/test_public"
    return {
        f"{root}/train/good/000_regular.png": 9,
        f"{root}/train/good/000_overexposed.png": 9,
        f"{root}/validation/good/000_regular.png": 9,
        f"{public}/good/000_regular.png": 9,
        f"{public}/bad/000_regular.png": 9,
        f"{public}/bad/000_shift_1.png": 9,
        f"{public}/bad/001_regular.png": 9,
        f"{public}/ground_truth/bad/000_regular_mask.png": 255,
        f"{public}/ground_truth/bad/000_shift_1_mask.png": 255,
        f"{public}/ground_truth/bad/001_regular_mask.png": 255,
        f"{root}/test_private/000_regular.png": 9,
        f"{root}/test_private_mixed/000_mixed.png": 9,
    }


def test_ad2_reads_the_public_part_and_groups_the_lights(miniature: Miniature, rows: Rows) -> None:
    root = miniature(ad2())
    found = rows(root, "mvtec_ad2")
    assert len(found) == 7  # nothing of the private parts, and no mask as an image
    masks = {row[3]: row[4] for row in found if row[4]}
    assert masks == {
        f"can/test_public/bad/{stem}.png": f"can/test_public/ground_truth/bad/{stem}_mask.png"
        for stem in ("000_regular", "000_shift_1", "001_regular")
    }
    groups = {row[3]: row[5] for row in found}
    assert groups["can/train/good/000_regular.png"] == groups["can/train/good/000_overexposed.png"]
    assert len(set(groups.values())) == 5
    split = split_by_protocol(index_dataset(root, card="mvtec_ad2"), "kshot-1", seed=1)
    chosen = [r.path.stem for r in split if r.split == "train" and r.defective]
    tested = [r.path.stem for r in split if r.split == "test" and r.defective]
    assert not {name[:3] for name in chosen} & {name[:3] for name in tested}


def test_the_wrong_card_says_the_layout(miniature: Miniature) -> None:
    root = miniature(BTAD)
    with pytest.raises(
        DatasetError, match=r"'01': expected good images in train/good/ .*only ko, ok"
    ):
        index_dataset(root, card="folder")
    with pytest.raises(
        DatasetError, match=r"expected the VisA layout, found 01, 03; (?s:.*)split_csv/1cls\.csv"
    ):
        index_dataset(root, card="visa")
