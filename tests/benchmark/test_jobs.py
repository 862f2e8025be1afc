"""A benchmark from the file to the table: kept, gone on with, failed; nothing is trained here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image as Pillow

from anomaly_u2net.benchmark import BenchmarkFile, here, jobs, run_benchmark, scores
from anomaly_u2net.benchmark.jobs import Job, execute, peak_gpu_memory, peak_memory, plan_jobs
from anomaly_u2net.benchmark.methods import AnomalibMethod
from anomaly_u2net.benchmark.outcome import NAME, SAMPLES, Outcome
from anomaly_u2net.data.images import read_image
from anomaly_u2net.data.split_files import read_split
from anomaly_u2net.errors import InputError, MissingExtra, RecipeError
from anomaly_u2net.evaluation import evaluate
from anomaly_u2net.evaluation.memory import Memory
from anomaly_u2net.files import hold, sha256_file, write_json
from anomaly_u2net.recipe import Recipe
from anomaly_u2net.types import Image, ImageRecord, ScoreMap

evaluation = import_module("anomaly_u2net.evaluation.evaluate")  # the package has its name too
METHODS = ("ours", "U-Net", "PatchCore")


class Killed(BaseException):
    """Stands for a kill: nothing in the package catches it."""


@dataclass(frozen=True)
class Bright:
    """Bright pixels are defective; ``noise`` (of gray levels) moves them, ``scale`` is any."""

    noise: float
    scale: float = 1.0
    calibration: None = None
    model_hash: str = "bright"
    recipe_hash: str = "r"
    calibration_hash: str = ""

    def predict_scored(self, image: Image) -> tuple[ScoreMap, float]:
        rng = np.random.default_rng(int(image.sum()))
        found = image[..., 0] + self.noise * rng.normal(size=image.shape[:2])
        found = (self.scale * found).astype(np.float32)
        return found, float(found.mean())


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The cells that are "trained", by name; each becomes a `Bright` with noise of its own."""
    done: list[str] = []

    def train(job: Job, records: Sequence[ImageRecord]) -> Any:
        done.append(job.name)
        noise = {"ours": 60.0, "U-Net": 200.0, "PatchCore": 120.0}[job.method] + 9 * job.seed
        costs = {"minutes": 0.5 + job.seed, "steps": 7.0}
        return Bright(noise, scale=30.0 if job.method == "PatchCore" else 1.0), costs, "scratch"

    monkeypatch.setattr(jobs, "_train", train)
    return done


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """1000 of each number take longer than all the rest."""
    for module in (scores, evaluation):
        monkeypatch.setattr(module, "RESAMPLES", 40)


@pytest.fixture
def data(own_data: Path) -> Path:
    """The tiny data set with enough test images for intervals: 7 good, 6 defective."""
    for category in ("plate", "sheet"):
        for label, count in (("good", 4), ("spot", 3)):
            for number in range(count):
                name = f"{label}/train_{label}_{number}.png"
                (own_data / category / "train" / name).rename(own_data / category / "test" / name)
    return own_data


@pytest.fixture
def bench(tiny_recipe: Recipe, data: Path, tmp_path: Path) -> BenchmarkFile:
    """One of the two categories: two protocols, three methods, two seeds."""
    tiny_recipe.save(tmp_path / "tiny.yaml")
    return BenchmarkFile.from_dict(
        {
            "name": "mine",
            "data": {
                "root": str(data),
                "categories": ["plate"],
                "calibration_fraction": 0,
                "validation_fraction": 0,
            },
            "protocols": ["given", "kshot-1"],
            "seeds": [0, 1],
            "methods": {
                "ours": {"recipe": str(tmp_path / "tiny.yaml")},
                "U-Net": {
                    "recipe": str(tmp_path / "tiny.yaml"),
                    "arch": "smp/unet-resnet18",
                    "set": {"model.width": None, "model.depth": None},
                },
                "PatchCore": {"anomalib": "Patchcore"},
            },
        }
    )


@pytest.fixture
def both(bench: BenchmarkFile) -> BenchmarkFile:
    """The same with both categories."""
    return bench.model_copy(update={"data": bench.data.model_copy(update={"categories": None})})


def test_cells_are_all_combinations_seed_by_seed(
    both: BenchmarkFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = plan_jobs(both, "out")
    assert {job.out for job in found} == {tmp_path / "out"}  # Ray works in another folder
    assert len(found) == 2 * 2 * 3 * 2
    assert [job.seed for job in found] == [0] * 12 + [1] * 12
    assert [job.name for job in found[:4]] == [
        "plate, given, ours, seed 0",
        "plate, given, U-Net, seed 0",
        "plate, given, PatchCore, seed 0",
        "plate, kshot-1, ours, seed 0",
    ]
    assert len({job.digest for job in found}) == len({job.folder for job in found}) == 24
    recipe = found[3].spec
    assert isinstance(recipe, Recipe)
    assert (recipe.data.categories, recipe.data.protocol, recipe.seed) == (["plate"], "kshot-1", 0)


def test_a_size_that_is_not_given_changes_no_digest(bench: BenchmarkFile, tmp_path: Path) -> None:
    """Cells that were finished when it was 256 by default stay so."""
    method, digests = bench.methods["PatchCore"], []
    for size in (None, 256, 128):
        own = {"PatchCore": method.model_copy(update={"size": size})}
        digests.append(plan_jobs(bench.model_copy(update={"methods": own}), tmp_path)[0].digest)
    assert digests[0] == digests[1] != digests[2]


def test_the_whole_table(both: BenchmarkFile, trained: list[str], tmp_path: Path) -> None:
    table = run_benchmark(both, tmp_path / "out")
    assert len(trained) == len(set(trained)) == 24
    assert [(row.protocol, row.method) for row in table.rows] == [
        (protocol, name) for protocol in ("given", "kshot-1") for name in METHODS
    ]
    ours, _, patchcore = table.rows[:3]
    assert ours.seeds == (0, 1)
    assert not ours.notes
    assert ours.costs["minutes"] == 1.0
    assert table.best["given"]["pixel_ap"] == "PatchCore"
    assert "pixel_ap" not in patchcore.differences
    assert table.hashes["given"] != table.hashes["kshot-1"]
    written = sorted(path.name for path in (tmp_path / "out").glob("benchmark.*"))
    assert written == [f"benchmark.{kind}" for kind in ("csv", "json", "md", "tex", "yaml")]
    assert json.loads((tmp_path / "out" / "benchmark.json").read_text()) == table.to_dict()
    saved = yaml.safe_load((tmp_path / "out" / "benchmark.yaml").read_text())
    assert BenchmarkFile.from_dict(saved) == both


def test_the_numbers_of_a_cell_are_those_of_evaluate(
    bench: BenchmarkFile, trained: list[str], tmp_path: Path
) -> None:
    job = plan_jobs(bench, tmp_path / "out")[2]
    outcome = execute(job)
    records = read_split(job.folder / "split.csv", job.data.folder(), only="test")
    expected = evaluate(Bright(120.0, scale=30.0), records)
    for name, number in outcome.numbers.items():
        assert number == expected.mean_numbers[name]
    assert outcome.images == {"test": [7, 6], "train": [6, 3], "calibration": [4, 1]}
    saved = json.loads((job.folder / "evaluation" / "test" / "evaluation.json").read_text())
    assert saved["mean"]["pixel_ap"]["value"] == expected.mean["pixel_ap"]
    loaded = Outcome.load(job.folder)
    assert loaded == outcome
    assert loaded is not None
    for name, one in outcome.samples.items():
        assert np.array_equal(loaded.samples[name].samples, one.samples, equal_nan=True)


def test_each_type_trains_in_turn_in_its_own_category_alone(
    both: BenchmarkFile, data: Path, trained: list[str], tmp_path: Path
) -> None:
    """plate has a second type, darker, and sheet has not."""
    truth = data / "plate" / "ground_truth"
    shutil.copytree(truth / "spot", truth / "scratch")
    for part in ("train", "test"):
        folder = data / "plate" / part / "scratch"
        folder.mkdir()
        for path in (data / "plate" / part / "spot").iterdir():
            Pillow.fromarray(read_image(path) // 2).save(folder / path.name)
    under = {"hard-each-2": {"train.steps": 4}}
    ours = both.methods["ours"].model_copy(update={"under": under})
    changes = {"protocols": ["hard-each-2"], "seeds": [0], "methods": {"ours": ours}}
    bench = both.model_copy(update=changes)
    found = plan_jobs(bench, tmp_path / "out")
    assert [(job.category, job.protocol) for job in found] == [
        *(("plate", "hard-scratch-2"), ("plate", "hard-spot-2")),
    ]
    assert {job.spec.train.steps for job in found if isinstance(job.spec, Recipe)} == {4}
    table = run_benchmark(bench, tmp_path / "out")
    assert trained == [f"plate, hard-{label}-2, ours, seed 0" for label in ("scratch", "spot")]
    (row,) = table.rows
    assert (row.seeds, row.over) == ((0,), "2 types")
    assert row.notes == ("left out: sheet, spot: no other type to test",)
    values = [cell.numbers["pixel_ap"].value for cell in table.cells]  # type: ignore[union-attr]
    assert row.numbers["pixel_ap"].value == pytest.approx(sum(values) / 2)  # type: ignore[union-attr]


@pytest.mark.parametrize("protocol", ["full", "full-folds"])
def test_all_folds_of_a_set_without_masks_in_training(
    bench: BenchmarkFile, data: Path, trained: list[str], tmp_path: Path, protocol: str
) -> None:
    for place in (data / "plate" / "train" / "spot").iterdir():
        place.rename(data / "plate" / "test" / "spot" / place.name)
    (data / "plate" / "train" / "spot").rmdir()
    methods = {"ours": bench.methods["ours"]}
    folds = {"protocols": [protocol], "seeds": [0], "methods": methods}
    table = run_benchmark(bench.model_copy(update=folds), tmp_path / "out")
    assert trained == [f"plate, full-fold{fold}of5, ours, seed 0" for fold in range(1, 6)]
    assert {job.error for job in table.cells} == {None}
    (row,) = table.rows
    assert (row.protocol, row.seeds, row.notes, row.over) == (protocol, (0,), (), "5 folds")
    tested = [
        record.path
        for path in (tmp_path / "out").glob("plate/*/ours-seed0/split.csv")
        for record in read_split(path, data, only="test")
    ]
    assert len(tested) == len(set(tested)) > 20  # every image once
    values = [cell.numbers["pixel_ap"].value for cell in table.cells]  # type: ignore[union-attr]
    assert row.numbers["pixel_ap"].value == pytest.approx(np.mean(values))  # type: ignore[union-attr]


def test_near_copies_in_the_test_are_counted_or_have_left(
    bench: BenchmarkFile, data: Path, trained: list[str], tmp_path: Path
) -> None:
    picture = read_image(data / "plate" / "train" / "good" / "train_good_5.png") * 0.8
    Pillow.fromarray(picture.astype(np.uint8)).save(data / "plate" / "test" / "good" / "copy.png")
    found = {}
    for choice in ("keep", "leave"):
        own = bench.data.model_copy(update={"near_copies": choice})
        job = plan_jobs(bench.model_copy(update={"data": own}), tmp_path / choice)[0]
        outcome = execute(job)
        assert Outcome.load(job.folder) == outcome
        found[choice] = outcome.near_copies, outcome.images["test"]
    assert found == {"keep": (1, [8, 6]), "leave": (0, [7, 6])}


def test_prediction_has_one_thread_and_the_next_training_those_of_before(
    bench: BenchmarkFile, trained: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    predict = Bright.predict_scored

    def spy(self: Bright, image: Image) -> tuple[ScoreMap, float]:
        seen.add(torch.get_num_threads())
        return predict(self, image)

    monkeypatch.setattr(Bright, "predict_scored", spy)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert execute(plan_jobs(bench, tmp_path / "out")[0]).error is None
        assert (seen, torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(before)


def test_too_little_memory_for_intervals_of_pixel_numbers(
    bench: BenchmarkFile, trained: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scarce = Memory(needed=2, streamed=2, allowed=1, stated=False)
    monkeypatch.setattr(scores, "plan_memory", lambda tests: scarce)
    outcome = execute(plan_jobs(bench, tmp_path / "out")[0])
    pixel, image = outcome.numbers["pixel_ap"], outcome.numbers["image_auroc"]
    assert pixel is not None
    assert image is not None
    assert pixel.certified is not None
    assert (pixel.low, image.low is None) == (None, False)
    assert set(outcome.samples) == {"image_auroc"}


def test_a_kill_after_some_cells_is_gone_on_from(
    bench: BenchmarkFile, trained: list[str], tmp_path: Path
) -> None:
    def kill(what: str, done: int, total: int) -> None:
        assert total == 12
        if done == 5:
            raise Killed

    with pytest.raises(Killed):
        run_benchmark(bench, tmp_path / "out", on_cell=kill)
    assert len(trained) == 5
    assert "plate" in (tmp_path / "out" / "benchmark.csv").read_text()  # what there is, is told
    table = run_benchmark(bench, tmp_path / "out")
    assert len(trained) == len(set(trained)) == 12
    whole = run_benchmark(bench, tmp_path / "other")
    strip = [replace(row, costs={}) for row in table.rows]
    assert strip == [replace(row, costs={}) for row in whole.rows]


def test_what_is_written_of_a_benchmark_that_was_cut_short_says_so(
    both: BenchmarkFile, trained: list[str], tmp_path: Path
) -> None:
    def kill(what: str, done: int, total: int) -> None:
        if done == 7:  # all of the first category, and ours of the second
            raise Killed

    with pytest.raises(Killed):
        run_benchmark(both, tmp_path / "out", on_cell=kill)
    rows = json.loads((tmp_path / "out" / "benchmark.json").read_text())["rows"]
    assert [(row["seeds"], row["notes"]) for row in rows[:2]] == [
        ([0], ["not run yet: 2 of 4 cells"]),
        ([], ["not run yet: 3 of 4 cells"]),
    ]


def test_a_failed_cell_is_a_row_with_its_error_and_is_tried_again(
    bench: BenchmarkFile,
    trained: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = jobs._train

    def fail(job: Job, records: Sequence[ImageRecord]) -> Any:
        if job.method == "U-Net" and job.seed == 1:
            raise MemoryError("no | room")
        if job.method == "PatchCore":
            raise MissingExtra("peers", "anomalib")
        return train(job, records)

    monkeypatch.setattr(jobs, "_train", fail)
    table = run_benchmark(bench, tmp_path / "out")
    ours, unet, patchcore = table.rows[:3]
    assert ours.seeds == (0, 1)
    assert unet.seeds == (0,)
    assert unet.notes == ("failed: MemoryError: no | room",)
    assert patchcore.seeds == ()
    lacking = "n/a: needs anomalib is not installed: pip install 'anomaly_u2net[peers]'"
    assert patchcore.notes == (lacking,)
    assert table.best["given"]["pixel_ap"] == "U-Net"
    assert ours.differences["pixel_ap"] is not None
    text = (tmp_path / "out" / "benchmark.md").read_text()
    assert r"failed: MemoryError: no \| room" in text
    assert lacking in text
    monkeypatch.setattr(jobs, "_train", train)
    trained.clear()
    again = run_benchmark(bench, tmp_path / "out")
    assert len(trained) == 6
    assert all(row.seeds == (0, 1) and not row.notes for row in again.rows)


def test_a_failed_cell_may_be_mended_in_the_file(
    bench: BenchmarkFile, trained: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = jobs._train

    def fail(job: Job, records: Sequence[ImageRecord]) -> Any:
        if job.method == "PatchCore":
            raise InputError("no such layer")
        return train(job, records)

    monkeypatch.setattr(jobs, "_train", fail)
    run_benchmark(bench, tmp_path / "out")
    monkeypatch.setattr(jobs, "_train", train)
    mended = AnomalibMethod(anomalib="Patchcore", arguments={"layers": ["layer1"]})
    changed = bench.model_copy(update={"methods": bench.methods | {"PatchCore": mended}})
    trained.clear()
    table = run_benchmark(changed, tmp_path / "out")
    assert {name.split(", ")[2] for name in trained} == {"PatchCore"}
    assert all(row.seeds == (0, 1) and not row.notes for row in table.rows)


def test_a_category_without_test_defects(
    bench: BenchmarkFile, data: Path, trained: list[str], tmp_path: Path
) -> None:
    job = plan_jobs(bench, tmp_path / "out")[0]
    shutil.rmtree(data / "plate" / "test" / "spot")
    error = execute(job).error
    assert error is not None
    assert "expected defective test images, found none; leave the category out" in error
    assert trained == []


def test_weights_that_changed_since(
    bench: BenchmarkFile, trained: list[str], tmp_path: Path
) -> None:
    start = tmp_path / "start.pth"
    start.write_bytes(b"one")
    warm = bench.methods["ours"].model_copy(update={"set": {"model.init": str(start)}})
    job = plan_jobs(bench.model_copy(update={"methods": {"ours": warm}}), tmp_path / "out")[0]
    execute(job)
    run = job.folder / "run-seed0"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.json").write_text("{}")
    write_json(run / "environment.json", {"init_sha256": sha256_file(start)})
    assert execute(job).error is None
    start.write_bytes(b"two")
    with pytest.raises(InputError, match=rf"start.pth is not the file that the run in {run} began"):
        execute(job)
    start.unlink()  # what was measured stays so
    assert execute(job).error is None
    assert trained == [job.name]


def test_another_benchmark_in_the_folder(
    bench: BenchmarkFile, trained: list[str], tmp_path: Path
) -> None:
    run_benchmark(bench, tmp_path / "out")
    changed = bench.model_copy(update={"max_minutes": 1.0})
    trained.clear()
    with pytest.raises(InputError, match=r"PatchCore-seed0|ours-seed0") as found:
        run_benchmark(changed, tmp_path / "out")
    assert "holds a cell of another benchmark" in str(found.value)
    assert "give another --out, or remove that folder" in str(found.value)
    assert trained == []


@pytest.mark.parametrize("content", [b"{}", b"[]", b"PK\x03\x04 half a file"])
def test_a_result_that_cannot_be_read(
    bench: BenchmarkFile, trained: list[str], tmp_path: Path, content: bytes
) -> None:
    job = plan_jobs(bench, tmp_path / "out")[0]
    execute(job)
    (job.folder / (SAMPLES if content.startswith(b"PK") else NAME)).write_bytes(content)
    with pytest.raises(InputError, match="remove it, and the cell is made again"):
        run_benchmark(bench, tmp_path / "out")


def test_a_cell_that_another_process_works_at(
    bench: BenchmarkFile, trained: list[str], tmp_path: Path
) -> None:
    job = plan_jobs(bench, tmp_path / "out")[0]
    job.folder.mkdir(parents=True)
    with (job.folder / jobs.LOCK).open("ab", buffering=0) as lock:
        hold(lock, job.folder)
        found = execute(job)
    assert "another process is writing there" in found.reason
    assert trained == []
    assert not (job.folder / "result.json").exists()  # the other one writes it
    assert execute(job).error is None


def test_refused_before_anything_is_trained(bench: BenchmarkFile, tmp_path: Path) -> None:
    ours = bench.methods["ours"]
    for change, text in (
        ({"data.card": "demo"}, "methods.ours sets data.card: data, seed and name are the bench"),
        ({"train.step": 3}, "methods.ours under given: recipe: unknown key 'train.step'"),
    ):
        method = ours.model_copy(update={"set": change})
        with pytest.raises(RecipeError, match=text):
            plan_jobs(bench.model_copy(update={"methods": {"ours": method}}), tmp_path)
    twins = {"a b": ours, "a/b": ours}
    with pytest.raises(InputError, match="rename one of the methods"):
        plan_jobs(bench.model_copy(update={"methods": twins}), tmp_path)


def test_peak_memory_is_of_this_process() -> None:
    peak = peak_memory()
    assert peak is not None
    assert 0.01 < peak < 100


def test_peak_gpu_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a device that is made up: 3 GiB in bytes."""
    if not torch.cuda.is_initialized():
        assert peak_gpu_memory() is None
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 * 2**30)
    assert peak_gpu_memory() == 3.0


def test_here_is_one_after_another(
    bench: BenchmarkFile, trained: list[str], tmp_path: Path
) -> None:
    planned = plan_jobs(bench, tmp_path / "out")[:2]
    first = next(iter(here(planned)))
    assert first[0] == planned[0]
    assert trained == [planned[0].name]
