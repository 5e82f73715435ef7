"""Where the tasks of a build are done: in this process, in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from datastore.devices import DeviceChoice
from datastore.encoders.registry import Encoder
from datastore.errors import InvalidArgument
from datastore.tasks.plan import BuildPlan
from datastore.tasks.processes import Processes
from datastore.tasks.stages import OnStep, Stage, Worker
from datastore.tasks.workspace import Workspace

MAX_WORKERS = 1024


@dataclass(frozen=True, slots=True)
class Execution:
    """Who does the tasks. It has no say in what comes out, as long as each worker has as many threads."""

    executor: Literal["local", "ray"] = "local"
    workers: int | None = None
    """Processes; None works in this one, with all its threads (on Ray: as many as the cluster has CPUs)."""
    threads: int | None = None
    """Of each worker's arithmetic; None takes 1."""
    cache: Path | None = None
    """A folder that keeps vectors from build to build (`datastore.encoders.cache`)."""

    def __post_init__(self) -> None:
        for name, value in (("workers", self.workers), ("threads", self.threads)):
            if value is not None and not 1 <= value <= MAX_WORKERS:
                raise InvalidArgument(
                    f"{name} is {value}; it must be between 1 and {MAX_WORKERS}",
                    mend=f"pass a number of {name} in that range",
                    field=name,
                )


HERE = Execution()


class Executor(Protocol):
    """Does a stage of tasks."""

    def run(self, stage: Stage, tasks: Sequence[int], on_step: OnStep) -> None:
        """All these tasks, in any order; returns when they are done, or raises what one of them raised."""
        ...


class InProcess:
    """Does one task after another, here."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def run(self, stage: Stage, tasks: Sequence[int], on_step: OnStep) -> None:
        for task in tasks:
            self._worker.run(stage, task, on_step)


@contextmanager
def open_executor(
    execution: Execution, workspace: Workspace, plan: BuildPlan, encoder: Encoder | None, device: DeviceChoice
) -> Iterator[Executor]:
    """The executor that was asked for, until the end of the `with` block.

    Raises:
        FailedPrecondition: what it needs is not installed.
    """
    if execution.executor == "ray":
        from datastore.tasks.on_ray import OnRay

        with contextlib.closing(OnRay(workspace, device, execution)) as cluster:
            yield cluster
    elif execution.workers is not None or execution.threads is not None:
        with contextlib.closing(
            Processes(workspace, device, execution.workers or 1, execution.threads or 1, execution.cache)
        ) as processes:
            yield processes
    else:
        with contextlib.closing(Worker(workspace, plan, device, encoder=encoder, cache=execution.cache)) as worker:
            yield InProcess(worker)
