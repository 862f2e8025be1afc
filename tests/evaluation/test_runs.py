"""Which images belong to a run, and which must not be measured with it."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from anomaly_u2net.errors import DatasetError, LeakError, ModelFileError
from anomaly_u2net.evaluation.runs import other_records, run_recipe, run_records
from anomaly_u2net.files import write_text


def counts(records: list) -> Counter:
    return Counter((record.category, record.defective) for record in records)


def test_the_splits_of_a_run(tiny_run: Path) -> None:
    assert counts(run_records(tiny_run, "test")) == {
        ("plate", False): 3, ("plate", True): 3, ("sheet", False): 3, ("sheet", True): 3,
    }  # fmt: skip
    assert counts(run_records(tiny_run, "calibration"))["plate", False] == 4
    parts = [run_records(tiny_run, s) for s in ("train", "validation", "calibration", "test")]
    paths = [record.path for part in parts for record in part]
    assert len(paths) == len(set(paths)) == 2 * (16 + 5 + 6)


def test_data_that_moved(tiny_run: Path, own_data: Path) -> None:
    records = run_records(tiny_run, "test", data_root=own_data)
    assert all(own_data in record.path.parents for record in records)
    (own_data / "plate/test/good/test_good_0.png").unlink()
    with pytest.raises(DatasetError, match=r"1 are missing: .*test_good_0.png"):
        run_records(tiny_run, "test", data_root=own_data)


def test_images_that_changed(tiny_run: Path, own_data: Path) -> None:
    one, other = (own_data / f"plate/test/good/test_good_{n}.png" for n in (0, 1))
    shutil.copy(one, other)
    with pytest.raises(DatasetError, match=r"1 are altered: plate/test/good/test_good_1.png"):
        run_records(tiny_run, "test", data_root=own_data)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no recipe.yaml here: expected the folder of a"):
        run_recipe(tmp_path)


def test_other_images_are_those_of_the_test_part(tiny_run: Path, own_data: Path) -> None:
    for path in own_data.glob("*/test/*/*.png"):
        path.write_bytes(path.read_bytes() + b"\0")  # other bytes, the same picture
    records = other_records(tiny_run, own_data)
    assert {record.split for record in records} == {"test"}
    assert len(records) == 12


def test_a_training_image_among_other_images_is_a_leak(tiny_run: Path, own_data: Path) -> None:
    copied = own_data / "sheet/test/good/new.png"
    shutil.copy(own_data / "plate/train/good/train_good_3.png", copied)
    with pytest.raises(LeakError, match=r"found 1 of 13 with the same bytes: .*new.png"):
        other_records(tiny_run, own_data)


def test_a_calibration_image_among_other_images_is_a_leak(tiny_run: Path, own_data: Path) -> None:
    for path in (own_data / "sheet/validation/good").iterdir():
        shutil.copy(path, own_data / "sheet/test/good")
    with pytest.raises(LeakError, match=r"found 4 of 16 with the same bytes"):
        other_records(tiny_run, own_data)


def test_one_category_under_another_name(tiny_run: Path, own_data: Path) -> None:
    shutil.rmtree(own_data / "sheet")
    records = other_records(tiny_run, own_data, category="sheet")
    assert {record.category for record in records} == {"sheet"}


def test_two_categories_cannot_have_one_name(tiny_run: Path, own_data: Path) -> None:
    with pytest.raises(DatasetError, match=r"names one category, but .* holds plate, sheet"):
        other_records(tiny_run, own_data, category="sheet")


def test_a_folder_without_test_images(tiny_run: Path, own_data: Path) -> None:
    for path in own_data.glob("*/test"):
        shutil.rmtree(path)
    with pytest.raises(DatasetError, match=r"no test images: expected test/good/ and"):
        other_records(tiny_run, own_data)


def test_groups_of_other_images_are_read_where_known(
    tiny_run: Path, own_data: Path, tmp_path: Path
) -> None:
    """The card of the run may promise groups.csv; images that are only measured need none."""
    card = tmp_path / "mine.yaml"
    write_text(
        card,
        "name: mine\ntitle: t\nlayout: mvtec\nlicence: l\ncitation: c\nget: g\n"
        "groups: {column: lot}\n",
    )
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(tiny_run / "split.csv", run)
    run_recipe(tiny_run).with_overrides([f"data.card={card}"]).save(run / "recipe.yaml")
    assert {record.group for record in other_records(run, own_data)} == {None}
    shutil.rmtree(own_data / "sheet")
    names = sorted(path.name for path in own_data.glob("plate/test/*/*.png"))
    lines = [f"{name},{number // 2}" for number, name in enumerate(names)]
    write_text(own_data / "plate/groups.csv", "\n".join(["file,lot", *lines]) + "\n")
    assert [record.group for record in other_records(run, own_data)] == list("001122")


def test_a_card_that_names_its_categories_does_not_refuse_other_folders(
    tiny_run: Path, own_data: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    text = (run / "recipe.yaml").read_text()
    write_text(run / "recipe.yaml", text.replace("card: folder", "card: demo"))
    records = other_records(run, own_data / "sheet", category="brick")
    assert {record.category for record in records} == {"brick"}
