"""Many cells at a time: one after another, in processes of their own, or on Ray."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import Any, TypeAlias

from anomaly_u2net.benchmark.jobs import Job, execute, failed_outcome
from anomaly_u2net.benchmark.outcome import Outcome
from anomaly_u2net.benchmark.run import Failed
from anomaly_u2net.errors import InputError
from anomaly_u2net.resources import require_extra

#: Takes jobs, gives each with its outcome as it ends.
Runner: TypeAlias = Callable[[Sequence[Job]], Iterator[tuple[Job, Outcome]]]
#: Seconds that a process has to end in once it is asked to; then it is killed.
GRACE = 10.0


def here(jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
    """One after another in this process; its memory is then that of all so far."""
    for job in jobs:
        yield job, execute(job)


def in_processes(count: int) -> Runner:
    """``count`` at a time, each in a new process with its share of the threads.

    A process that dies, of too little memory say, is an error of its cell alone. None outlives
    this one, however this one ends. Raises `InputError` for fewer than 1.
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
            _end([process for _, process in alive.values()])

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
    Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    answer.send(execute(job))


def _end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, killed say.

    Else it would train on for nobody, and hold the cell against whoever goes on. What training
    keeps is written whole or not at all, so that it can end anywhere.
    """
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _end(processes: Sequence[Any]) -> None:
    """Ask all to end, then see each gone: Lightning, for one, ends only after its batch."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(GRACE)
        process.kill()
        process.join()


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
