"""A worker process of a build: `python -m datastore.tasks.worker STORE DEVICE [CACHE]`.

It reads jobs from standard input, JSON objects in a line each: a stage, and tasks to do it to, each unless another
worker has it. It says on standard output, in JSON Lines, how far it is (`step`), that it is through (`done`), or what
went wrong (`error`), which is its end. When its standard input ends, so does it, at once: a build that was killed
leaves no worker behind.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datastore import errors
from datastore.devices import parse_device
from datastore.errors import PergamonError
from datastore.store.refusals import storage_errors
from datastore.tasks.plan import load_plan
from datastore.tasks.stages import Stage, Step, Worker
from datastore.tasks.workspace import Workspace


def open_worker(store: str, device: str, cache: str | None = None) -> Worker:
    """A worker for the build that has its plan in `store`, in the folder that the build was begun in."""
    workspace = Workspace(Path(store))
    workspace.join()
    plan = load_plan(workspace)
    if plan is None:
        raise errors.FailedPrecondition(
            f"{workspace.plan} cannot be read; wanted the plan of a build",
            mend="give every worker the same version of pergamon, and a file system that all of them see",
        )
    os.chdir(plan.folder)
    return Worker(workspace, plan, parse_device(device), cache=Path(cache) if cache is not None else None)


def error_to_plain(error: PergamonError) -> dict[str, str]:
    """An error as a JSON object, for another process."""
    return {"kind": type(error).__name__, "problem": error.problem, "mend": error.mend, "field": error.field}


def error_from_plain(plain: dict[str, str]) -> PergamonError:
    """What `error_to_plain` was given."""
    kind: type[PergamonError] = getattr(errors, plain["kind"])
    return kind(plain["problem"], mend=plain["mend"], field=plain["field"])


def step_from_plain(plain: dict[str, Any]) -> Step:
    """What `asdict` was given."""
    return Step(**{**plain, "stage": Stage(plain["stage"])})


def main() -> int:
    store, device, *cache = sys.argv[1:]
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_hear, args=(jobs,), daemon=True).start()
    try:
        with storage_errors(Path(store)):
            worker = open_worker(store, device, *cache)
            while True:
                job = jobs.get()
                for task in job["tasks"]:
                    worker.run(Stage(job["stage"]), task, lambda step: _say({"step": asdict(step)}))
                _say({"done": job["stage"]})
    except PergamonError as error:
        _say({"error": error_to_plain(error)})
        return 1


def _hear(jobs: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        jobs.put(json.loads(line))
    os._exit(0)


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
