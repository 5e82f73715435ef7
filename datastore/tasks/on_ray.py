"""Workers on a Ray cluster, whose machines all see the input and the store: the only file that imports Ray."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datastore.devices import DeviceChoice
from datastore.errors import FailedPrecondition, PergamonError, Unavailable
from datastore.store.refusals import storage_errors
from datastore.tasks.executors import Execution
from datastore.tasks.processes import THREAD_VARIABLES
from datastore.tasks.stages import OnStep, Stage, Step
from datastore.tasks.worker import error_from_plain, error_to_plain, open_worker, step_from_plain
from datastore.tasks.workspace import Workspace

_ADDRESS = "RAY_ADDRESS"


class _RemoteWorker:
    """Does one task after another, in a process of the cluster."""

    def __init__(self, store: str, device: str, cache: str | None) -> None:
        self._arguments = (store, device, cache)
        self._worker: Any = None

    def run(self, stage: str, task: int) -> dict[str, Any]:
        """The last step of the task, or the error that it ended with, as plain values."""
        steps: list[Step] = []
        try:
            with storage_errors(Path(self._arguments[0])):
                if self._worker is None:
                    self._worker = open_worker(*self._arguments)
                self._worker.run(Stage(stage), task, lambda step: steps.__setitem__(slice(None), [step]))
        except PergamonError as error:
            return {"error": error_to_plain(error)}
        return {"step": asdict(steps[0])} if steps else {}


class OnRay:
    """Implements `datastore.tasks.executors.Executor`.

    Connects to the cluster that `RAY_ADDRESS` names, else starts one on this machine.

    Args:
        execution: actors of `threads` CPUs each; `workers` None takes as many as the cluster has room for.

    Raises:
        FailedPrecondition: Ray is not installed.
        Unavailable: the cluster cannot be reached.
    """

    def __init__(self, workspace: Workspace, device: DeviceChoice, execution: Execution) -> None:
        workers, threads = execution.workers, execution.threads or 1
        if importlib.util.find_spec("ray") is None:
            raise FailedPrecondition(
                "the executor is ray, which is not installed",
                mend="pip install 'pergamon[ray]', or use --executor local",
                field="executor",
            )
        import ray

        self._ray = ray
        self._started = not ray.is_initialized()
        if self._started:
            try:
                address = os.environ.get(_ADDRESS)
                ray.init(address=address, include_dashboard=None if address else False, log_to_driver=False)
            except Exception as error:  # of many classes, by what is wrong
                raise Unavailable(
                    f"no Ray cluster answers at {os.environ.get(_ADDRESS, 'this machine')}: {error}",
                    mend=f"start one, or correct {_ADDRESS}",
                    field="executor",
                ) from None
        room = int(ray.cluster_resources().get("CPU", 1)) // threads
        variables = dict.fromkeys(THREAD_VARIABLES, str(threads))
        actor = ray.remote(num_cpus=threads, num_gpus=1 if device.kind == "cuda" else 0, max_restarts=0)(_RemoteWorker)
        cache = str(execution.cache.absolute()) if execution.cache is not None else None
        self._actors = [
            actor.options(runtime_env={"env_vars": variables}).remote(
                str(workspace.store.absolute()),
                device.kind,  # Ray shows each worker its own GPUs alone
                cache,
            )
            for _ in range(workers or max(room, 1))
        ]

    def run(self, stage: Stage, tasks: Sequence[int], on_step: OnStep) -> None:
        waiting = list(reversed(tasks))
        free = list(self._actors)
        running: dict[Any, Any] = {}
        while waiting or running:
            while waiting and free:
                actor = free.pop()
                running[actor.run.remote(str(stage), waiting.pop())] = actor
            (ready,), _ = self._ray.wait(list(running), num_returns=1)
            free.append(running.pop(ready))
            try:
                answer = self._ray.get(ready)
            except self._ray.exceptions.RayError as error:
                raise Unavailable(
                    f"a worker on Ray was lost: {str(error).strip().splitlines()[0]}",
                    mend="run the same command again: it goes on where the worker was",
                ) from None
            if "error" in answer:
                raise error_from_plain(answer["error"])
            if "step" in answer:
                on_step(step_from_plain(answer["step"]))

    def close(self) -> None:
        for actor in self._actors:
            self._ray.kill(actor)
        if self._started:
            self._ray.shutdown()
