"""``calibrate``: from a run or a file of scores, by every rule; and REVIEW through ``score``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from anomaly_u2net.calibration import (
    IMAGE_RULES,
    PIXEL_RULES,
    Calibration,
    rate_upper,
    what_if,
)
from anomaly_u2net.calibration.words import percent_up
from anomaly_u2net.cli.calibrate import OPTIONS

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the tiny run, not calibrated, to write into."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """60 good nuts with the scores 1 to 60, 26 bent ones with 55 to 80, on no scale of ours."""
    good = [f"nut,good,{score},{score}" for score in range(1, 61)]
    bent = [f"nut,bent,{score},b{score}" for score in range(55, 81)]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(["category,label,score,serial", *good, *bent]) + "\n")
    return path


# --- from a run


def test_calibrate(cli: Cli, run: Path) -> None:
    code, out, err = cli("calibrate", run, "--false-reject", "0.2")
    assert code == 0, err
    assert f"written: {run / 'calibration.json'}" in out
    assert "plate: image: Of new good images like the 4 held out, at most 20 %" in out
    saved = Calibration.load(run / "calibration.json")
    code, out, _ = cli("calibrate", run, "--false-reject", "0.2", "--json", "--backend", "torch")
    again = json.loads(out)
    assert code == 0
    for name, thresholds in saved.categories.items():
        value = again["categories"][name]["image"]["value"]
        assert value == pytest.approx(thresholds.image.value, rel=1e-3)  # torch and onnxruntime


def test_calibrate_refuses_test_images(cli: Cli, run: Path) -> None:
    code, out, err = cli("calibrate", run, "--split", "test")
    assert (code, out) == (3, "")
    assert "a threshold chosen on test images makes the test meaningless" in err
    assert not (run / "calibration.json").exists()


def test_calibrate_needs_enough_images_or_leave(cli: Cli, run: Path) -> None:
    code, out, err = cli("calibrate", run)
    assert (code, out) == (3, "")
    assert "plate: a false-reject rate of 0.05 needs at least 19" in err
    assert not (run / "calibration.json").exists()
    code, out, _ = cli("calibrate", run, "--allow-weaker")
    assert code == 0
    assert "Weaker than the 5 % asked for" in out


def test_calibrate_without_held_out_images(cli: Cli, run: Path) -> None:
    lines = (run / "split.csv").read_text().splitlines()
    kept = [line for line in lines if ",calibration," not in line]
    (run / "split.csv").write_text("\n".join(kept) + "\n")
    code, _, err = cli("calibrate", run)
    assert code == 3
    assert "there are no held-out images: set data.calibration_fraction above 0" in err


@pytest.mark.parametrize(
    ("options", "image", "pixel", "parameters"),
    [
        (["--delta=0.1", "--false-reject=0.5"], "false_reject", "false_reject",
         {"alpha": 0.5, "delta": 0.1}),
        (["--rule=missed_defects", "--missed=0.5", "--false-reject=0.2"],
         "missed_defects", "false_reject", {"beta": 0.5}),
        (["--rule=cost", "--overkill=2", "--escape=50", "--defect-rate=0.01",
          "--pixel-rule=any_missed", "--missed=0.5"],
         "cost", "any_missed", {"overkill": 2.0, "escape": 50.0, "defect_rate": 0.01}),
        (["--rule=best_f1", "--pixel-rule=best_f1"], "best_f1", "best_f1", {}),
        (["--rule=mean_sigma", "--sigmas=2", "--pixel-rule=mean_sigma"],
         "mean_sigma", "mean_sigma", {"sigmas": 2.0}),
        (["--pixel-rule=pixel_false_share", "--allow-weaker", "--memory=1KiB"],
         "false_reject", "pixel_false_share", {"alpha": 0.05}),
    ],
)  # fmt: skip
def test_every_rule(
    cli: Cli,
    run: Path,
    tmp_path: Path,
    options: list[str],
    image: str,
    pixel: str,
    parameters: dict[str, float],
) -> None:
    code, out, err = cli("calibrate", run, *options, "--out", tmp_path / "own.json")
    assert code == 0, err
    found = Calibration.load(tmp_path / "own.json").for_category("plate")
    assert found.pixel is not None
    assert (found.image.rule, found.pixel.rule) == (image, pixel)
    assert found.image.parameters == parameters
    assert f"plate: image: {found.image.promise}" in out
    assert f"plate: pixel: {found.pixel.promise}" in out
    assert not (run / "calibration.json").exists()


def test_a_threshold_by_hand(cli: Cli, run: Path) -> None:
    code, out, err = cli("calibrate", run, "--threshold", "0.25", "--false-reject", "0.2")
    assert code == 0, err
    found = Calibration.load(run / "calibration.json").for_category("plate")
    assert (found.image.rule, found.image.value) == ("given", 0.25)
    assert found.pixel is not None
    assert found.pixel.rule == "false_reject"
    assert f"plate: image: {found.image.promise}" in out
    assert "Chosen by hand; " in out
    assert "plate: pixel: 95 % sure: at most 52.8 % of new good images are marked anywhere." in out


def test_the_bound_of_the_review_threshold(cli: Cli, table: Path, tmp_path: Path) -> None:
    options = ["--rule", "both", "--missed", "0.05", "--out", tmp_path / "two.json"]
    code, out, err = cli("calibrate", "--scores", table, *options)
    assert code == 0, err
    review = Calibration.load(tmp_path / "two.json").for_category("nut").review
    assert review is not None
    above = sum(score > review.value for score in range(1, 61))
    bound = percent_up(rate_upper(above, 60))
    assert f"nut: review: 95 % sure: at most {bound} of new good images are reviewed or" in out


def test_little_memory(cli: Cli, run: Path) -> None:
    code, _, err = cli("calibrate", run, "--false-reject", "0.2", "--memory", "1KiB")
    assert code == 0, err
    best = Calibration.load(run / "calibration.json").for_category("plate").pixel_best_f1
    assert best is not None
    assert "Streamed: " in best.promise


def test_options_are_known_for_every_rule() -> None:
    assert set(OPTIONS) == {*IMAGE_RULES, *PIXEL_RULES}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--false-reject", "0"], "expected a false-reject rate between 0 and 1"),
        (["--rule", "youden"], "expected a rule, one of false_reject, missed_defects, both, cost"),
        (["--pixel-rule", "youden"], "expected a pixel rule, one of false_reject, pixel_false_"),
        (["--backend", "tensorrt"], "unknown backend 'tensorrt': expected auto, onnx, torch"),
        (["--moved-to", "nothing"], "are missing"),
        (["--sigmas", "2"],
         "the options of --rule false_reject and --pixel-rule false_reject are --false-reject, "
         "--delta, --allow-weaker: leave --sigmas out"),
        (["--rule=best_f1", "--pixel-rule=best_f1", "--allow-weaker"],
         "--pixel-rule best_f1 are none: leave --allow-weaker out"),
        (["--missed", "0.1"], "leave --missed out"),
        (["--rule", "cost", "--overkill", "1"],
         "--rule cost needs --escape, --defect-rate too: what one good part called NG"),
        (["--rule=cost", "--overkill=0", "--escape=1", "--defect-rate=0.1"],
         "expected a cost of overkill above 0, got 0.0"),
        (["--pixel-rule=pixel_false_share", "--false-reject=0.5", "--delta=0.1"],
         "pixel_false_share holds on average only: leave delta out"),
        (["--scores", "s.csv"], "and --scores were both given: give one"),
        (["--what-if", "--missed", "0.1"], "--what-if shows many rates and writes nothing: leave"),
        (["--what-if", "--out", "a.json"], "leave --out out"),
        (["--what-if", "--rule", "both"], "leave --rule out"),
        (["--what-if", "--memory", "1GB"], "leave --memory out"),
        (["--memory", "much"], "'much' is no amount of memory: write it as 8GiB"),
        (["--rule", "cross_conformal", "--false-reject=0.2"], "a run has one model: put the scores"),
        (["--rule", "both", "--threshold", "0.5"], "leave --threshold out"),
        (["--rule", "given", "--false-reject=0.2"], "the rule given needs the threshold: give --th"),
        (["--threshold", "nan", "--false-reject=0.2"], "expected a finite threshold, got nan"),
    ],
)  # fmt: skip
def test_calibrate_refuses(cli: Cli, run: Path, options: list[str], text: str) -> None:
    code, out, err = cli("calibrate", run, *options)
    assert (code, out) == (3, "")
    assert text in err
    assert "Traceback" not in err
    assert not (run / "calibration.json").exists()


def test_what_if(cli: Cli, run: Path) -> None:
    code, out, err = cli("calibrate", run, "--what-if")
    assert code == 0, err
    lines = [line.replace("│", " ").split() for line in out.splitlines()]
    assert ["0.05", "19", "no", *["n/a"] * 5] in lines
    assert sum(line[:3] == ["0.2", "4", "yes"] for line in lines) == 2  # plate and sheet
    assert "plate: 4 good, 1 defective images held out" in out
    assert "choose the rate first" in out
    assert not (run / "calibration.json").exists()


# --- from a file of scores


def test_scores_of_any_tool(
    cli: Cli, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = cli("calibrate", "--scores", table, "--out", "calibration.json")
    assert code == 0, err
    assert "written: calibration.json" in out
    assert "warning" not in out  # 58 is no saturated score: the scale is the tool's own
    found = Calibration.load("calibration.json")
    # The ⌈61 × 0.95⌉ = 58th smallest of 60.
    assert found.for_category("nut").image.value == 58.0
    assert found.for_category("nut").pixel is None
    options = ["--rule", "both", "--missed", "0.2", "--delta", "0.1", "--out", "two.json"]
    code, out, _ = cli("calibrate", "--scores", table, *options, "--json")
    two = Calibration.load("two.json")
    assert code == 0
    assert json.loads(out) == json.loads(json.dumps(two.to_dict()))
    assert two.for_category("nut").image.value == 60.0
    assert two.for_category("nut").review is not None


def test_what_if_of_scores_is_the_librarys(cli: Cli, table: Path, tmp_path: Path) -> None:
    code, out, err = cli("calibrate", "--scores", table, "--what-if", "--delta", "0.1", "--json")
    assert code == 0, err
    found = json.loads(out)
    rows = what_if(range(1, 61), range(55, 81), delta=0.1)
    assert found["delta"] == 0.1
    assert [row["threshold"] for row in found["categories"]["nut"]] == [r.threshold for r in rows]
    assert found["categories"]["nut"][4]["overkill_interval"] == list(rows[4].overkill_interval)
    assert not (tmp_path / "calibration.json").exists()


def test_what_if_goes_on_where_a_category_cannot(cli: Cli, table: Path, tmp_path: Path) -> None:
    both = tmp_path / "both.csv"
    both.write_text(table.read_text() + "bolt,bent,3,b\n")
    code, out, err = cli("calibrate", "--scores", both, "--what-if")
    assert code == 0, err
    assert "bolt: no table: " in out
    assert "nut: 60 good, 26 defective images held out" in out
    code, out, _ = cli("calibrate", "--scores", both, "--what-if", "--json")
    found = json.loads(out)
    assert (code, list(found["categories"]), list(found["without"])) == (0, ["nut"], ["bolt"])
    both.write_text("category,label,score\nbolt,bent,3\n")
    code, out, err = cli("calibrate", "--scores", both, "--what-if")
    assert (code, out) == (3, "")
    assert "bolt: expected at least one held-out good image, got 0" in err


def test_groups_in_the_file_count_parts(cli: Cli, table: Path) -> None:
    lines = table.read_text().splitlines()
    lines[0] = "category,label,score,group"
    lines[1:] = [
        line.rsplit(",", 1)[0] + (f",{i // 3}" if ",good," in line else f",b{i}")
        for i, line in enumerate(lines[1:])
    ]
    table.write_text("\n".join(lines) + "\n")
    code, out, _ = cli(
        "calibrate", "--scores", table, "--json", "--out", table.with_suffix(".json")
    )
    image = json.loads(out)["categories"]["nut"]["image"]
    assert (code, image["n"], image["unit"], image["value"]) == (0, 20, "group", 60.0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], "nothing to calibrate: name RUN, the folder of a training run, or give --scores"),
        (["--scores", "TABLE"], "--scores needs --out FILE.json, the file to write: a file of sco"),
        (["--scores", "none.csv", "--out=a.json"],
         "none.csv: expected a CSV file of scores that can be read"),
        (["--scores", "TABLE", "--backend", "onnx"], "no images and no model: leave --backend out"),
        (["--scores", "TABLE", "--pixel-rule", "best_f1"], "leave --pixel-rule out"),
        (["--scores", "TABLE", "--moved-to", "x"], "leave --moved-to out"),
        (["--scores", "TABLE", "--memory", "1GB"], "leave --memory out"),
        (["--scores", "TABLE", "--rule", "cross_conformal", "--out=a.json"],
         "60 of 60 good images have no fold"),
        (["--scores", "TABLE", "--rule", "cross_conformal", "--delta", "0.1"],
         "the options of --rule cross_conformal are --false-reject, --allow-weaker: leave --delta"),
        (["--scores", "TABLE", "--threshold", "50", "--false-reject", "0.1"],
         "the options of --rule given are --threshold, --delta: leave --false-reject out"),
        (["--scores", "TABLE", "--split", "test"], "makes the test meaningless"),
        (["--scores", "TABLE", "--rule", "best_f1", "--delta", "0.1"],
         "the options of --rule best_f1 are none: leave --delta out"),
        (["--scores", "TABLE", "--false-reject", "0.001", "--out=a.json"],
         "nut: a false-reject rate of 0.001"),
    ],
)  # fmt: skip
def test_scores_refuse(
    cli: Cli, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    options: list[str], text: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "calibration.json").write_text("of another line")
    given = [str(table) if word == "TABLE" else word for word in options]
    code, out, err = cli("calibrate", *given)
    assert (code, out) == (3, "")
    assert text in err
    assert (tmp_path / "calibration.json").read_text() == "of another line"
    assert not (tmp_path / "a.json").exists()


def test_one_number_for_several_categories(cli: Cli, table: Path, tmp_path: Path) -> None:
    options = ["--threshold", "58", "--out", tmp_path / "own.json"]
    code, out, err = cli("calibrate", "--scores", table, *options)
    assert code == 0, err
    assert "note: " not in out
    table.write_text(table.read_text() + "bolt,good,3,b\n")
    code, out, err = cli("calibrate", "--scores", table, *options)
    assert code == 0, err
    assert "note: --threshold is one number, 58, for all 2 categories, bolt, nut, whose" in out


def test_a_limit_on_screen_is_rounded_up(cli: Cli, table: Path, tmp_path: Path) -> None:
    lines = [line for line in table.read_text().splitlines() if "good" not in line]
    table.write_text("\n".join([*lines, *(f"nut,good,{i},{i}" for i in range(26))]) + "\n")
    options = ["--false-reject", "0.01", "--allow-weaker", "--out", tmp_path / "own.json"]
    code, out, err = cli("calibrate", "--scores", table, *options)
    assert code == 0, err
    image = Calibration.load(tmp_path / "own.json").for_category("nut").image
    assert (image.attained, image.false_reject_upper) == (1 / 27, rate_upper(0, 26))  # 0.10883…
    row = next(line for line in out.splitlines() if "false_reject" in line)
    assert [cell.strip() for cell in row.split("│")][7:9] == ["0.0371", "0.1089"]


def test_few_good_images_fail_by_the_pixel_rule(cli: Cli, run: Path) -> None:
    code, out, err = cli("calibrate", run, "--threshold", "0.25")
    assert (code, out) == (3, "")
    assert "plate: the pixel rule false_reject: a false-reject rate of 0.05 needs at least" in err


def test_a_threshold_by_hand_for_scores(cli: Cli, table: Path, tmp_path: Path) -> None:
    options = ["--threshold", "58", "--delta", "0.2", "--out", tmp_path / "own.json"]
    code, out, err = cli("calibrate", "--scores", table, *options)
    assert code == 0, err
    assert "2 of the 60 held-out good images are above it (3.33 %), with confidence 80 %" in out
    image = Calibration.load(tmp_path / "own.json").for_category("nut").image
    assert (image.rule, image.value) == ("given", 58.0)
    assert image.parameters["observed_missed"] == 4 / 26


def test_scores_of_k_models(cli: Cli, run: Path, tiny_data: Path, tmp_path: Path) -> None:
    rows = [f"plate,good,{i / 40},p{i // 2},{'abcde'[i // 2 % 5]}" for i in range(40)]
    table = tmp_path / "folds.csv"
    table.write_text("\n".join(["category,label,score,group,fold", *rows]) + "\n")
    cross = ["--rule", "cross_conformal", "--out", run / "calibration.json"]
    code, out, err = cli("calibrate", "--scores", table, *cross)
    assert code == 0, err
    image = Calibration.load(run / "calibration.json").for_category("plate").image
    assert (image.rule, image.n, image.unit, image.value) == ("cross_conformal", 20, "group", 0.975)
    assert image.attained == pytest.approx(0.1 + (1 - 5 / 20) / 6)  # 0.225 < 0.1 + 2 · 0.95 · 4/25
    assert f"plate: image: {image.promise}" in out
    assert "each of the 5 models scores above the threshold" in out
    good = tiny_data / "plate" / "validation" / "good"
    code, _, err = cli("score", run, good, "--out", tmp_path / "out")
    assert code == 3
    assert "its threshold is for the lowest score of K models, and this is one model" in err
    for options in (["--rule", "false_reject", "--out", tmp_path / "a.json"], ["--what-if"]):
        code, _, err = cli("calibrate", "--scores", table, *options)
        assert code == 3
        assert "these are the scores of K models (column fold)" in err


def test_no_model_takes_the_calibration_of_plain_scores(
    cli: Cli, run: Path, table: Path, tiny_data: Path, tmp_path: Path
) -> None:
    assert cli("calibrate", "--scores", table, "--out", run / "calibration.json")[0] == 0
    good = tiny_data / "plate" / "validation" / "good"
    code, _, err = cli("score", run, good, "--out", tmp_path / "out")
    assert code == 3
    assert "run 'anomaly-u2net calibrate' again" in err


# --- REVIEW


def test_review_rows_exit_with_1(
    cli: Cli, calibrated_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(calibrated_run, tmp_path / "run"))
    made = Calibration.load(run / "calibration.json")
    plate = made.for_category("plate")
    # Below every score: what was OK is REVIEW now, and what was NG stays NG.
    lower = replace(plate.image, value=plate.image.value / 1e6, rule="missed_defects")
    replace(made, categories={**made.categories, "plate": replace(plate, review=lower)}).save(
        run / "calibration.json"
    )
    good = tiny_data / "plate" / "validation" / "good"
    options = ["--out", tmp_path / "out", "--overlays"]
    code, out, err = cli("score", run, good, *options)
    assert code == 1, err
    fields = dict(line.split(None, 1) for line in out.splitlines())
    assert (fields["review"], fields["ok"], fields["ng"]) == ("4", "0", "0")
    code, out, _ = cli("score", run, good, good.parent / "spot", *options, "--json")
    found = json.loads(out)
    assert (code, found["summary"]["review"], found["summary"]["ng"]) == (1, 4, 1)
    assert [row["verdict"] for row in found["rows"]] == ["REVIEW"] * 4 + ["NG"]
    assert {row["review_threshold"] for row in found["rows"]} == {lower.value}
    assert len(list((tmp_path / "out" / "overlays").glob("*.png"))) == 5
