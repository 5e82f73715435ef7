"""A worker process of a build: `python -m datastore.tasks.worker`.

It reads its job, a JSON object in one line, from standard input: a stage, and tasks to do it to, each unless another
worker has it. It says on standard output, in JSON Lines, how far it is (`step`) or what went wrong (`error`). When its
standard input ends, so does it, at once: a build that was killed leaves no worker behind.
"""

from __future__ import annotations

import json
import os
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


def open_worker(store: str, device: str) -> Worker:
    """A worker for the build that has its plan in `store`, in the folder that the build was begun in."""
    workspace = Workspace(Path(store))
    plan = load_plan(workspace)
    if plan is None:
        raise errors.FailedPrecondition(
            f"{workspace.plan} cannot be read; wanted the plan of a build",
            mend="give every worker the same version of pergamon, and a file system that all of them see",
        )
    os.chdir(plan.folder)
    return Worker(workspace, plan, parse_device(device))


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
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        with storage_errors(Path(job["store"])):
            worker = open_worker(job["store"], job["device"])
            for task in job["tasks"]:
                worker.run(Stage(job["stage"]), task, lambda step: _say({"step": asdict(step)}))
    except PergamonError as error:
        _say({"error": error_to_plain(error)})
        return 1
    return 0


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(1)


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
