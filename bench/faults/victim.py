"""Runs the command in processes that kill themselves at a step, or are killed: `python -m bench.faults.victim ERRORS`.

A step is what Python itself is about to do with a file of the store: open, rename, remove, make a folder, lock. Python
tells an audit hook of each, so that the program that is killed has no line for it. Reads jobs, one JSON object a line,
forks a process for each, which spares the imports, and answers with its process id, then with its exit status.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

_NOBODY = 65534
_COMMAND = "pergamon.cli"
"""Run by name, as a shell does: no code of the benchmarks rests on it."""
EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "shutil.rmtree")


class Victims:
    """Runs commands in processes forked from one that has all imported; what they say goes into a file."""

    def __init__(self, errors: Path) -> None:
        command = [sys.executable, "-m", "bench.faults.victim", str(errors)]
        self._forker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603

    def start(
        self,
        arguments: Sequence[str],
        store: Path,
        *,
        kill_at: int | None = None,
        record: Path | None = None,
        file_bytes: int | None = None,
        unprivileged: bool = False,
    ) -> int:
        """Start `pergamon ARGUMENTS`; its process id.

        Args:
            kill_at: the step, counted from 0, before which it kills itself.
            record: a file that gets a line for each step.
            file_bytes: that a file may have at most, as if the disk were full then.
            unprivileged: give up being the superuser, whom no permissions stop.
        """
        job: dict[str, Any] = {"arguments": list(arguments), "store": str(store.absolute()), "kill_at": kill_at}
        job |= {"file_bytes": file_bytes, "unprivileged": unprivileged}
        assert self._forker.stdin is not None
        print(json.dumps(job | {"record": record and str(record)}), file=self._forker.stdin, flush=True)
        return int(self._answer())

    def wait(self) -> int:
        """The exit status of the one that was started; negative for a signal."""
        return int(self._answer())

    def _answer(self) -> str:
        assert self._forker.stdout is not None
        return self._forker.stdout.readline()

    def close(self) -> None:
        assert self._forker.stdin is not None
        self._forker.stdin.close()
        self._forker.wait(30)
        assert self._forker.stdout is not None
        self._forker.stdout.close()


def step_name(event: str, path: str) -> str:
    """The same for all segments and generations: `os.rename manifest.json`."""
    return f"{event} {re.sub('[0-9]+', '#', path)}"


def _watch(store: str, kill_at: int | None, record: str | None) -> None:
    log = None if record is None else os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    steps = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal steps
        if event not in EVENTS:
            return
        path = arguments[1] if event in ("os.rename", "os.link") else arguments[0]
        if not isinstance(path, str | os.PathLike) or not os.fspath(path).startswith(store):
            return
        if steps == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        steps += 1
        if log is not None:
            os.write(log, (step_name(event, os.fspath(path)[len(store) + 1 :]) + "\n").encode())

    sys.addaudithook(hook)


def _run(job: dict[str, Any]) -> None:
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    errors = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor in (1, 2):
        os.dup2(errors, descriptor)
    if job["file_bytes"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_bytes"], job["file_bytes"]))
    if job["unprivileged"] and os.geteuid() == 0:
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
    sys.argv = ["pergamon", *job["arguments"]]
    _watch(job["store"], job["kill_at"], job["record"])
    import_module(_COMMAND).main()


def main() -> None:
    import_module(_COMMAND)  # before forking
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _run(json.loads(line))
            return
        print(child, flush=True)  # noqa: T201
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
