from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anomaly_u2net.calibration import (
    Calibration,
    Costs,
    ImageScores,
    Terms,
    calibrate_scores,
    cross_conformal,
    false_reject,
    missed_defects,
    read_scores,
)
from anomaly_u2net.errors import CalibrationError, InputError, LeakError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def table(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    lines = ["path,label,score,category,group"]
    lines += [f"{i}.png,good,{random.random()},nut,{i // 2}" for i in range(40)]
    lines += [f"{i}.png,bent,{0.8 + random.random()},nut," for i in range(20)]
    lines += [f'"a,b",good,{i / 100},bolt,' for i in range(19)]
    return write(tmp_path / "scores.csv", "\n".join(lines) + "\n")


def test_read(tmp_path: Path) -> None:
    found = read_scores(table(tmp_path))
    assert list(found) == ["bolt", "nut"]
    assert (found["nut"].good.size, found["nut"].defective.size) == (40, 20)
    assert found["nut"].good_groups == [str(i // 2) for i in range(40)]
    assert found["nut"].defect_groups is None
    assert found["bolt"].scores[:2] == (0.0, 0.01)


def test_a_spreadsheet_s_file(tmp_path: Path) -> None:
    text = "\ufeffcategory,label,score\r\nnut, good ,1e-3\r\nnut,bent,2\r\n"
    found = read_scores(write(tmp_path / "x.csv", text))["nut"]
    assert (found.labels, found.scores, found.groups) == (
        ("good", "bent"),
        (0.001, 2.0),
        (None, None),
    )


def test_calibrate(tmp_path: Path) -> None:
    scores = read_scores(table(tmp_path))
    made = calibrate_scores(scores)
    nut, bolt = made.for_category("nut"), made.for_category("bolt")
    groups = scores["nut"].good_groups
    assert nut.image.value == false_reject(scores["nut"].good, alpha=0.05, groups=groups)
    assert (nut.image.n, nut.image.unit, nut.pixel) == (20, "group", None)
    assert (bolt.image.value, bolt.image_best_f1) == (0.18, None)
    assert made.images == {
        "bolt": {"good": 19, "defective": 0},
        "nut": {"good": 40, "defective": 20},
    }
    assert made.model_hash.startswith("scores:")
    assert (made.split, made.image_score) == ("calibration", "given")
    made.save(tmp_path / "calibration.json")
    assert Calibration.load(tmp_path / "calibration.json") == made


def test_rules(tmp_path: Path) -> None:
    scores = {"nut": read_scores(table(tmp_path))["nut"]}
    both = calibrate_scores(scores, terms=Terms(rule="both")).for_category("nut")
    assert both.review is not None
    assert both.review.value == missed_defects(scores["nut"].defective, beta=0.05)
    cost = calibrate_scores(scores, terms=Terms(rule="cost", costs=Costs(1, 10, 0.1))).for_category(
        "nut"
    )
    assert cost.image.parameters["escape"] == 10
    with pytest.raises(
        CalibrationError, match=r"^nut: a false-reject rate of 0.05 with confidence"
    ):
        calibrate_scores(scores, terms=Terms(delta=0.1))
    weaker = calibrate_scores(scores, terms=Terms(delta=0.1, allow_weaker=True)).for_category("nut")
    assert weaker.image.attained == pytest.approx(1 - 0.1 ** (1 / 20))


def test_refusals(tmp_path: Path) -> None:
    scores = read_scores(table(tmp_path))
    with pytest.raises(LeakError, match="must not come from test images"):
        calibrate_scores(scores, split="test")
    with pytest.raises(InputError, match=r"one of false_reject, missed_defects, .* got 'otsu'"):
        calibrate_scores(scores, terms=Terms(rule="otsu"))
    with pytest.raises(CalibrationError, match="bolt: the rule best_f1 needs defects"):
        calibrate_scores(scores, terms=Terms(rule="best_f1"))
    with pytest.raises(CalibrationError, match="at least one category"):
        calibrate_scores({})
    bad = ImageScores(("bent",), (0.5,), (None,))
    with pytest.raises(CalibrationError, match="nut: none of the 1 held-out images is good"):
        calibrate_scores({"nut": bad})
    with pytest.raises(InputError, match="1 labels, 2 scores and 1 groups"):
        ImageScores(("bent",), (0.5, 0.4), (None,))
    with pytest.raises(InputError, match="finite scores"):
        ImageScores(("bent",), (float("nan"),), (None,))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "missing category, label, score"),
        ("category;label;score\n", r"comma-separated header .* got 'category;label;score'"),
        ("category,label,value\nnut,good,1\n", "missing score"),
        ("category,label,score,score\nnut,good,1,1\n", "the column 'score' is there twice"),
        ("category,label,score\n", "a row per image below the header, got none"),
        ("category,label,score\nnut,good,1\nnut,good\n", "line 3: expected as many cells"),
        ("category,label,score\nnut,good,1,2\n", "line 2: expected as many cells"),
        ("category,label,score\nnut,,1\n", "line 2: the label is empty"),
        ("category,label,score\nnut,good,nan\n", "line 2: expected a finite number .* got 'nan'"),
        ('category,label,score\nnut,good,"0,5"\n', "decimal point.*, got '0,5'"),
        ('category,label,score\nnut,"good,1\n', "not CSV in UTF-8"),
    ],
)
def test_bad_files(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"x\.csv.*{message}"):
        read_scores(write(tmp_path / "x.csv", text))


def test_bad_bytes_missing_files_and_test_rows(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"category,label,score\n\xff,good,1\n")
    with pytest.raises(InputError, match=r"x\.csv: this is not CSV in UTF-8"):
        read_scores(tmp_path / "x.csv")
    with pytest.raises(InputError, match=r"none\.csv: .*No such file"):
        read_scores(tmp_path / "none.csv")
    head = "category,label,score,split\nnut,good,1,calibration\nnut,good,2,Validation\nnut,good,3,"
    assert read_scores(write(tmp_path / "y.csv", head))["nut"].scores == (1.0, 2.0, 3.0)
    for split in ("Test", "test_public", "train", "training", "fold 1"):
        with pytest.raises(LeakError, match=rf"line 4: this image is of the split '{split}'.*held"):
            read_scores(write(tmp_path / "y.csv", head + split))


@pytest.mark.parametrize("label", ["0", "1", "Good", "GOOD", "normal", "Normal", "OK", "nominal"])
def test_labels_that_only_seem_to_mean_good(label: str, tmp_path: Path) -> None:
    text = f"category,label,score\nnut,{label},1\n"
    said = f"the label '{label}' does not say whether the part is good: write 'good' for good"
    with pytest.raises(InputError, match=rf"x\.csv, line 2: {said}"):
        read_scores(write(tmp_path / "x.csv", text))
    with pytest.raises(InputError, match=f"nut: {said}"):
        calibrate_scores({"nut": ImageScores((label, "bent"), (0.1, 0.9), (None, None))})


def fold_table(tmp_path: Path) -> Path:
    """30 good images in 3 folds, two of each part, and one bent one."""
    lines = ["category,label,score,group,fold"]
    lines += [f"nut,good,{i},{i // 2},{'abc'[i // 2 % 3]}" for i in range(30)]
    lines += ["nut,bent,99,,"]
    return write(tmp_path / "folds.csv", "\n".join(lines) + "\n")


def test_scores_of_k_models(tmp_path: Path) -> None:
    scores = read_scores(fold_table(tmp_path))
    assert scores["nut"].folds is not None
    folds, groups = scores["nut"].good_folds()
    assert [fold.size for fold in folds] == [10, 10, 10]
    assert groups is not None
    assert groups[1][:3] == ["1", "1", "4"]
    terms = Terms(rule="cross_conformal", false_reject=0.1)
    made = calibrate_scores(scores, terms=terms)
    found = made.for_category("nut")
    expected = cross_conformal(folds, alpha=0.1, groups=groups)
    assert found.image == expected.as_threshold()
    assert (found.image.n, found.image.value) == (15, 29.0)
    assert (found.pixel, found.review, found.image_best_f1) == (None, None, None)
    assert made.images == {"nut": {"good": 30, "defective": 1}}
    made.save(tmp_path / "calibration.json")
    assert Calibration.load(tmp_path / "calibration.json") == made
    with pytest.raises(CalibrationError, match="lowest score of K models, and this is one model"):
        made.check_model("0" * 64)


def test_folds_and_rules_have_to_fit(tmp_path: Path) -> None:
    scores = read_scores(fold_table(tmp_path))
    with pytest.raises(InputError, match=r"nut: these are the scores of K models .* one model"):
        calibrate_scores(scores)
    cross = Terms(rule="cross_conformal")
    with pytest.raises(CalibrationError, match=r"nut: a false-reject rate of 0\.05 needs at least"):
        calibrate_scores(scores, terms=cross)
    weaker = calibrate_scores(scores, terms=replace(cross, allow_weaker=True))
    assert weaker.for_category("nut").image.parameters == {
        "alpha": 0.05, "aimed_alpha": 1 / 16, "folds": 3.0,
    }  # fmt: skip
    plain = read_scores(table(tmp_path))
    with pytest.raises(InputError, match="bolt: 19 of 19 good images have no fold"):
        calibrate_scores(plain, terms=cross)
    text = fold_table(tmp_path).read_text().replace("nut,good,3,1,b", "nut,good,3,1,")
    with pytest.raises(InputError, match="nut: 1 of 30 good images have no fold"):
        calibrate_scores(read_scores(write(tmp_path / "x.csv", text)), terms=cross)
    text = text.replace("nut,good,3,1,", "nut,good,3,1,c")
    with pytest.raises(InputError, match="nut: the part '1' is in two folds"):
        calibrate_scores(read_scores(write(tmp_path / "x.csv", text)), terms=cross)
    with pytest.raises(InputError, match="one fold per image, got 1 for 2 images"):
        ImageScores(("good",) * 2, (0.5, 0.4), (None,) * 2, ("a",))


def test_one_fold_or_no_good_images() -> None:
    cross = Terms(rule="cross_conformal", false_reject=0.5)
    one = ImageScores(("good", "good", "bent"), (1.0, 2.0, 3.0), (None,) * 3, ("a", "a", None))
    with pytest.raises(InputError, match="nut: the file has one fold, 'a', for all 2 good images"):
        calibrate_scores({"nut": one}, terms=cross)
    bent = ImageScores(("bent",), (3.0,), (None,), ("a",))
    with pytest.raises(CalibrationError, match="nut: there are no good images among the 1; the"):
        calibrate_scores({"nut": bent}, terms=cross)


def test_best_f1_reaches_what_it_says_on_float64_scores() -> None:
    """0.5 has a float32 of its own, and the float32 below it is below this good score too."""
    table = ImageScores(("good", "bent"), (0.4999999999, 0.5), (None, None))
    found = calibrate_scores({"nut": table}, terms=Terms(rule="best_f1")).for_category("nut").image
    assert "image F1 (1.0000)" in found.promise
    assert 0.4999999999 <= found.value < 0.5
