"""Many cells at a time: one after another, in processes of their own, or on Ray."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeAlias

from anomaly_u2net.benchmark.jobs import Job, execute, failed_outcome
from anomaly_u2net.benchmark.outcome import Outcome
from anomaly_u2net.benchmark.run import Failed
from anomaly_u2net.errors import InputError
from anomaly_u2net.resources import require_extra

#: Takes jobs, gives each with its outcome as it ends.
Runner: TypeAlias = Callable[[Sequence[Job]], Iterator[tuple[Job, Outcome]]]


def here(jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
    """One after another in this process; its memory is then that of all so far."""
    for job in jobs:
        yield job, execute(job)


def in_processes(count: int) -> Runner:
    """``count`` at a time, each in a new process with its share of the threads.

    A process that dies, of too little memory say, is an error of its cell alone. Raises
    `InputError` for fewer than 1.
    """
    if count < 1:
        raise InputError(f"expected 1 process or more, got {count}")

    def run(jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
        context = multiprocessing.get_context("spawn")
        waiting, alive = list(jobs), dict[Any, tuple[Job, Any]]()
        try:
            while waiting or alive:
                while waiting and len(alive) < count:
                    job = waiting.pop(0)
                    answer, its_end = context.Pipe(duplex=False)
                    process = context.Process(target=_work, args=(job, count, its_end))
                    process.start()
                    its_end.close()  # the process has the only one: when it dies, the pipe ends
                    alive[answer] = job, process
                for ready in wait(list(alive)):
                    job, process = alive.pop(ready)
                    yield job, _outcome(job, process, ready)
        finally:  # an interruption, or the caller has seen enough
            for _, process in alive.values():
                process.terminate()
                process.join()

    return run


def on_ray(jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
    """As tasks of the Ray cluster that is set up, or of a local one.

    All machines see ``--out`` and the data under the same paths. A task that dies is an error of
    its cell alone. Raises `MissingExtra` without ray.
    """
    require_extra("ray", "ray")
    import ray
    from ray.exceptions import RayError

    ray.init(ignore_reinit_error=True)
    task = ray.remote(max_calls=1)(execute)  # a new process for each, so that its memory is its own
    waiting = {task.remote(job): job for job in jobs}
    while waiting:
        (done, *_), _ = ray.wait(list(waiting), num_returns=1)
        job = waiting.pop(done)
        try:
            outcome = ray.get(done)
        except RayError as error:
            outcome = failed_outcome(job, Failed(f"{type(error).__name__}: {error}"))
        yield job, outcome


def _work(job: Job, count: int, answer: Connection) -> None:
    """What one of ``count`` processes does, with its share of what torch may use.

    Torch minds OMP_NUM_THREADS and CPU sets. Threads of one process that are more than the free
    cores spend their time waiting for each other.
    """
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    answer.send(execute(job))


def _outcome(job: Job, process: Any, answer: Any) -> Outcome:
    """What the process says, or that it died before it could."""
    try:
        found: Outcome | None = answer.recv()
    except (EOFError, OSError):
        found = None
    answer.close()
    process.join()
    if found is not None:
        return found
    died = f"its process ended with code {process.exitcode}"
    return failed_outcome(job, Failed(f"{died}: too little memory, or killed from outside"))
