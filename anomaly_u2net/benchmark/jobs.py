"""The cells of a benchmark: one category, protocol, method and seed each, trained and measured."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import FileIO
from pathlib import Path

from anomaly_u2net.benchmark.cells import Cell
from anomaly_u2net.benchmark.methods import AnomalibMethod, BenchmarkFile, TrainedMethod
from anomaly_u2net.benchmark.outcome import Outcome
from anomaly_u2net.benchmark.rows import RowSplits, plan_rows
from anomaly_u2net.benchmark.run import Failed, attempt, train_cell
from anomaly_u2net.benchmark.scores import TEST, score_cell
from anomaly_u2net.data.duplicates import picture_groups
from anomaly_u2net.data.index import index_dataset
from anomaly_u2net.data.protocols import check_protocol, near_copies, split_hash
from anomaly_u2net.data.split_files import write_split
from anomaly_u2net.errors import BusyError, DatasetError, InputError, RecipeError
from anomaly_u2net.evaluation.predictions import Predictor
from anomaly_u2net.files import hold, sha256_json
from anomaly_u2net.inference.segmenter import Segmenter
from anomaly_u2net.recipe import DataRecipe, Recipe
from anomaly_u2net.recipe.find import find_recipe
from anomaly_u2net.training.run import check_same_weights, data_records, init_path
from anomaly_u2net.types import ImageRecord

LOCK = "cell.lock"


@dataclass(frozen=True)
class Job:
    """One cell. spec: the recipe that our loop trains by, or the model of anomalib.

    out: the folder of the whole benchmark, absolute: a cell may be made on another machine.
    """

    out: Path
    category: str
    protocol: str
    method: str
    seed: int
    data: DataRecipe
    spec: Recipe | AnomalibMethod
    max_minutes: float | None = None
    accelerator: str = "auto"

    @property
    def name(self) -> str:
        return f"{self.category}, {self.protocol}, {self.method}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """``<out>/<category>/<protocol>/<method>-seed<k>``, odd signs as ``-``."""
        parts = self.category, self.protocol, f"{self.method}-seed{self.seed}"
        return self.out.joinpath(*(_slug(part) for part in parts))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that decides the numbers of the cell, but for what files hold.

        That methods of one seed saw the same images, the table checks; that a recipe's weights are
        those it began from, `finished` does. Weights of an anomalib method nobody compares.
        """
        own = self.spec
        spec = own.content if isinstance(own, AnomalibMethod) else own.model_dump(mode="json")
        data = self.data.model_dump(mode="json") | {"root": None}
        limits = {"max_minutes": self.max_minutes}
        return sha256_json({"spec": spec, "data": data, "seed": self.seed, **limits})


def plan(bench: BenchmarkFile) -> dict[str, RowSplits]:
    """Protocol of the file → the cells of its row, by the images; raises as `plan_rows`."""
    root = bench.data.folder()
    found = index_dataset(root, card=bench.data.card, categories=bench.data.categories)
    return plan_rows(bench.protocols, found)


def plan_jobs(
    bench: BenchmarkFile, out: str | Path, rows: Mapping[str, RowSplits] | None = None
) -> list[Job]:
    """Every cell of ``bench``, seed by seed, so that one cut short still compares all methods.

    rows: what `plan` returned; None: it is asked. Raises `RecipeError` for a method that is no recipe
    under some protocol, `DatasetError` for images or categories that are not there, or too few masks
    of every type, `InputError` for two methods of one folder name, or two protocols of one cell.
    """
    root = bench.data.folder()
    rows = plan(bench) if rows is None else rows
    data = bench.data.model_copy(update={"root": str(root.absolute())})
    jobs = [
        Job(
            out=Path(out).absolute(),
            category=category,
            protocol=protocol,
            method=name,
            seed=seed,
            data=(own := _data(data, category, protocol)),
            spec=_recipe(bench, name, method, own, seed, listed=listed)
            if isinstance(method, TrainedMethod)
            else method,
            max_minutes=bench.max_minutes,
            accelerator=bench.accelerator,
        )
        for seed in bench.seeds
        for category in sorted({cell[0] for row in rows.values() for cell in row.cells})
        for listed, row in rows.items()
        for protocol in [name for owner, name in row.cells if owner == category]
        for name, method in bench.methods.items()
    ]
    folder, count = Counter(str(job.folder).lower() for job in jobs).most_common(1)[0]
    if count > 1:
        names = [job.name for job in jobs if str(job.folder).lower() == folder]
        raise InputError(f"{' and '.join(names)} would share {folder}: rename one of the methods")
    return jobs


def lacking_images(bench: BenchmarkFile) -> str:
    """Why the folder with the images of ``bench`` cannot be looked into; empty where it is there.

    >>> lacking_images(BenchmarkFile.from_dict({
    ...     "name": "mine", "data": {"root": "/gone"}, "protocols": ["given"],
    ...     "methods": {"PaDiM": {"anomalib": "Padim"}}}))
    '/gone: expected a data-set folder, found nothing; check the path'
    """
    try:
        root = bench.data.folder()
    except RecipeError as error:
        return str(error)
    return (
        ""
        if root.exists()
        else f"{root}: expected a data-set folder, found nothing; check the path"
    )


def execute(job: Job) -> Outcome:
    """The finished result of ``job`` from its folder, or the one that is made now.

    An error is a result too; it is tried again the next time. An interruption is not caught: what
    training kept is gone on from. Raises nothing but `InputError` for a folder that holds another
    cell; another process in the folder is an error of this cell for now.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    with FileIO(job.folder / LOCK, "a") as lock:
        try:
            hold(lock, job.folder)
        except BusyError as error:  # the other process will write the result
            return failed_outcome(job, Failed(str(error)))
        if (done := finished(job)) is not None:
            return done
        found = attempt(job.name, lambda: _made(job))
        outcome = failed_outcome(job, found) if isinstance(found, Failed) else found
        outcome.save(job.folder)
    return outcome


def finished(job: Job) -> Outcome | None:
    """The numbers that the folder of ``job`` holds; `InputError` for those of another cell or start."""
    found = Outcome.load(job.folder)
    if found is None or found.error is not None:  # an error is tried again
        return None
    if found.digest != job.digest:
        raise InputError(
            f"{job.folder} holds a cell of another benchmark: expected {job.digest[:12]}, found "
            f"{found.digest[:12]}: give another --out, or remove that folder"
        )
    if isinstance(job.spec, Recipe):
        check_same_weights(job.folder / _own(job.spec).folder, job.spec)
    return found


def _made(job: Job) -> Outcome:
    root = job.data.folder()
    records = data_records(job.data, root, seed=job.seed)
    check_protocol(records)
    write_split(job.folder / "split.csv", records, root=root)
    tests = [record for record in records if record.split == TEST]
    if not any(record.defective for record in tests):
        raise DatasetError(
            f"{job.name}: expected defective test images, found none; leave the category out, or "
            "use a protocol that leaves some"
        )
    predictor, costs, start = _train(job, records)
    scored = score_cell(predictor, tests, out=job.folder)
    memory = {"gib": peak_memory(), "gpu_gib": peak_gpu_memory()}
    return Outcome(
        digest=job.digest,
        category=job.category,
        protocol=job.protocol,
        method=job.method,
        seed=job.seed,
        numbers=scored.numbers,
        small=scored.small,
        costs=costs | {"milliseconds": scored.milliseconds} | memory,
        images=_images(records),
        near_copies=_near_copies(job.data, root, records),
        split_hash=split_hash(records),
        model_hash=predictor.model_hash,
        start=start,
        samples=scored.samples,
    )


def failed_outcome(job: Job, found: Failed) -> Outcome:
    """The error of ``job`` as its result."""
    return Outcome(
        digest=job.digest,
        category=job.category,
        protocol=job.protocol,
        method=job.method,
        seed=job.seed,
        error=found.error,
        lacking=found.lacking,
    )


def _own(recipe: Recipe) -> Cell:
    """The one training in the folder of a job."""
    return Cell("run", recipe)


def _train(job: Job, records: Sequence[ImageRecord]) -> tuple[Predictor, dict[str, float], str]:
    """The model, what its training cost, and what its weights started from."""
    spec = job.spec
    if isinstance(spec, Recipe):
        run = train_cell(_own(spec), job.folder, max_minutes=job.max_minutes)
        predictor = Segmenter.load(run.folder, backend="onnx", threads=1, calibrated=False)
        init = init_path(spec)
        costs = {"minutes": run.minutes, "steps": float(run.steps)}
        return predictor, costs, "scratch" if init is None else init.name
    from anomaly_u2net.benchmark.peers import train_peer

    peer = train_peer(
        spec,
        records,
        seed=job.seed,
        out=job.folder / "anomalib",
        max_minutes=job.max_minutes,
        accelerator=job.accelerator,
    )
    start = "its own" if spec.weights is None else Path(spec.weights).name
    return peer, {"minutes": peer.minutes, "steps": float(peer.steps)}, start


def _recipe(
    bench: BenchmarkFile,
    name: str,
    method: TrainedMethod,
    data: DataRecipe,
    seed: int,
    *,
    listed: str,
) -> Recipe:
    """The recipe of one cell; listed: the protocol of the file, as ``under`` has it."""
    changes = method.overrides(listed)
    if wrong := [key for key in changes if key.split(".")[0] in ("data", "seed", "name")]:
        raise RecipeError(
            f"methods.{name} sets {wrong[0]}: data, seed and name are the benchmark's, alike for "
            "every method"
        )
    changes |= {"data": data.model_dump(mode="json"), "seed": seed}
    if bench.accelerator != "auto":
        changes["train.accelerator"] = bench.accelerator
    overrides = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in changes.items()]
    try:
        return find_recipe(method.recipe).with_overrides(overrides)
    except RecipeError as error:
        raise RecipeError(f"methods.{name} under {data.protocol}: {error}") from error


def _data(data: DataRecipe, category: str, protocol: str) -> DataRecipe:
    return DataRecipe.model_validate(
        data.model_dump() | {"categories": [category], "protocol": protocol}
    )


def _images(records: Sequence[ImageRecord]) -> dict[str, list[int]]:
    """Split → [good, defective] images."""
    counts = Counter((record.split, record.defective) for record in records)
    return {s: [counts[s, False], counts[s, True]] for s, _ in sorted(counts)}


def _near_copies(data: DataRecipe, root: Path, records: Sequence[ImageRecord]) -> int:
    """How many of the tested ``records`` look like one on the training side."""
    if data.near_copies == "leave":
        return 0
    found = index_dataset(root, card=data.card, categories=data.categories)
    return len(near_copies(records, picture_groups(found)))


def peak_memory() -> float | None:
    """The most memory that this process has held, in GiB; None where the system does not say."""
    status = Path("/proc/self/status")
    if status.is_file():  # of this program; getrusage counts that of its parent too
        peak = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), flags=re.MULTILINE)
        return int(peak[1]) / 2**20 if peak else None
    if os.name == "nt":
        return None
    import resource

    peak_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak_rss / (2**30 if sys.platform == "darwin" else 2**20)


def peak_gpu_memory() -> float | None:
    """The most that tensors of this process have held of torch's CUDA device, in GiB.

    None where there were none: on a CPU, and with several devices, each in a process of its own.
    """
    import torch

    return torch.cuda.max_memory_allocated() / 2**30 or None


def _slug(text: str) -> str:
    return re.sub(r"[^\w.+=†²-]+", "-", text).strip("-")
