from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from anomaly_u2net.data.images import read_image, read_sample
from anomaly_u2net.data.index import check_trainable, index_dataset
from anomaly_u2net.data.splits import check_disjoint, record_hashes, split_records
from anomaly_u2net.data.synthesis.write import synthesize
from anomaly_u2net.errors import DatasetError, InputError
from anomaly_u2net.files import sha256_file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One category of ten smooth good images, one real defect, and a test image."""
    for number in range(10):
        rng = np.random.default_rng(number)
        pixels = (90 + 5 * number + rng.integers(0, 5, (80, 96, 3))).astype(np.uint8)
        save(pixels, tmp_path / "plate" / "train" / "good" / f"{number}.png")
    pixels[30:36, 40:56], mask = 10, np.zeros((80, 96), np.uint8)
    mask[30:36, 40:56] = 255
    for part in ("train", "test"):
        save(pixels, tmp_path / "plate" / part / "dent" / f"{part}.png")
        save(mask, tmp_path / "plate" / "ground_truth" / "dent" / f"{part}_mask.png")
        pixels = pixels + 1
    return tmp_path


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(pixels).save(path)


def test_the_folder_is_a_data_set_to_train_on(root: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    out = tmp_path / "made"
    written = synthesize(
        index_dataset(root), out, count=3, generators=["hole", "paste", "perlin"],
        textures="noise", seed=5, on_image=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told == [(n, 9) for n in range(1, 10)]
    records = index_dataset(out)
    check_trainable(records)
    labels = [(r.split, r.label) for r in records]
    assert {label: labels.count(("train", label)) for label in ("good", "hole", "paste", "perlin")} == {
        "good": 10, "hole": 3, "paste": 3, "perlin": 3,
    }  # fmt: skip
    assert len(labels) == 19
    for made in written:
        sample = read_sample(next(r for r in records if r.path == made.image))
        assert made.mask == out / "plate" / "ground_truth" / made.generator / made.mask.name
        below = read_image(made.source.path)
        changed = (sample.image != below).any(axis=2)
        assert sample.mask.any()
        assert made.generator == "paste" or not (changed & ~sample.mask).any()
    about = json.loads((out / "made.json").read_text())
    assert about["seed"] == 5
    assert about["generators"] == ["hole", "paste", "perlin"]
    for number in range(10):
        name = f"plate/train/good/{number}.png"
        assert sha256_file(out / name) == sha256_file(root / name)


def test_no_split_parts_a_made_image_from_the_good_one_below(root: Path, tmp_path: Path) -> None:
    synthesize(index_dataset(root), tmp_path / "made", count=8, generators=["hole", "stain"])
    records = split_records(
        index_dataset(tmp_path / "made"), calibration_fraction=0.2, validation_fraction=0.2, seed=1
    )
    splits: dict[str | None, set[str]] = {}
    for record in records:
        splits.setdefault(record.group, set()).add(record.split)
    assert None not in splits
    assert all(len(found) == 1 for found in splits.values())
    assert {s for found in splits.values() for s in found} == {"train", "validation", "calibration"}
    check_disjoint(record_hashes(r for r in records if r.split == "train"), records)


def test_groups_of_the_source_are_kept(root: Path, tmp_path: Path) -> None:
    with (root / "plate" / "groups.csv").open("w") as file:
        file.write("file,group\n" + "".join(f"train/good/{n}.png,p{n // 2}\n" for n in range(10)))
    synthesize(index_dataset(root), tmp_path / "made", count=4, generators=["hole"])
    with (tmp_path / "made" / "plate" / "groups.csv").open() as file:
        groups = {row["group"] for row in csv.DictReader(file)}
    assert groups == {f"p{n}" for n in range(5)}


def test_the_seed_decides_and_other_generators_do_not(root: Path, tmp_path: Path) -> None:
    records = index_dataset(root)
    for name, seed, more in (("a", 0, []), ("b", 0, ["scar"]), ("c", 1, [])):
        synthesize(records, tmp_path / name, count=2, generators=[*more, "hole"], seed=seed)
    files = [
        (tmp_path / name / "plate" / "train" / "hole" / "hole_0001.png").read_bytes()
        for name in "abc"
    ]
    assert files[0] == files[1] != files[2]


def test_what_cannot_be_written(root: Path, tmp_path: Path) -> None:
    records = index_dataset(root)
    out = tmp_path / "made"

    def fails(error: type[Exception], match: str, **changes: object) -> None:
        arguments = {"count": 1, "generators": ["hole"], **changes}
        with pytest.raises(error, match=match):
            synthesize(
                changes.pop("records", records),
                out,
                **{  # type: ignore[arg-type]
                    k: v for k, v in arguments.items() if k != "records"
                },
            )
        assert not out.exists()

    fails(InputError, "expected a count of 1 or more images, got 0", count=0)
    fails(InputError, r"unknown generator 'hol' \(did you mean 'hole'\?\)", generators=["hol"])
    fails(InputError, "expected a generator, got none; known: perlin", generators=[])
    fails(InputError, "'hole' is there twice", generators=["hole", "hole"])
    fails(InputError, "textures noise changes nothing without the generator", textures="noise")
    fails(
        DatasetError, "synthesis.textures .*expected self, noise or a folder",
        textures=str(tmp_path / "gone"), generators=["perlin"],
    )  # fmt: skip
    only_good = [r for r in records if not r.defective]
    fails(
        DatasetError, "the generator paste expects defect images with masks in training",
        generators=["paste"], records=only_good,
    )  # fmt: skip
    fails(
        DatasetError, r"category 'plate': expected good images in train/good/",
        records=[r for r in records if r.split == "test"],
    )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["plate"]  # nothing half written


def test_a_folder_with_files_in_it_is_left_alone(root: Path, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "mine.txt").touch()
    with pytest.raises(DatasetError, match="expected a new or empty folder, found other files"):
        synthesize(index_dataset(root), tmp_path / "made", count=1, generators=["hole"])
    (tmp_path / "made" / "mine.txt").unlink()
    synthesize(index_dataset(root), tmp_path / "made", count=1, generators=["hole"])
    assert (tmp_path / "made" / "plate" / "train" / "hole" / "hole_0000.png").is_file()


def test_a_generator_that_shows_nothing_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(2):  # a piece of one flat image on another: nothing to be seen
        flat = np.full((64, 64, 3), 90, np.uint8)
        save(flat + np.uint8(number), tmp_path / "flat" / "train" / "good" / f"{number}.png")
    records = index_dataset(tmp_path)
    with pytest.raises(
        DatasetError, match="'flat': expected defects that can be seen, got none by p"
    ):
        synthesize(records, tmp_path / "made", count=1, generators=["poisson"])
    assert not (tmp_path / "made").exists()
    caplog.clear()
    written = synthesize(records, tmp_path / "made", count=2, generators=["poisson", "hole"])
    assert [made.generator for made in written] == ["hole", "hole"]
    assert "flat: no defect by generator 'poisson' could be seen on 20 good images" in caplog.text
