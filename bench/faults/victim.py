"""Runs the command in processes that kill themselves at a step, or are killed: `python -m bench.faults.victim FOLDER`.

Reads jobs, one JSON object a line: to start a command, which it does in a process forked from this one, with all
imports done; it answers with the process id. Or to wait for one, which it answers with the exit status. The processes
that a command starts itself run `victim_worker`, which follows orders as well.
"""

from __future__ import annotations

import json
import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.faults.steps import Orders, follow, orders_from

ENVIRONMENT = {"JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1"}
"""A Java machine that lives for two seconds is not worth its second compiler: a third of the time."""
_NOBODY = 65534
_COMMAND = "pergamon.cli"
"""Run by name, as a shell does: no code of the benchmarks rests on it."""
_ERRORS = "errors.txt"
_PYTHON = "python"
_LOOK_S = 0.01


class Victims:
    """Runs commands in processes forked from one that has all imported.

    Args:
        folder: where what they say is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._errors = folder / _ERRORS
        self._errors.touch()
        self._errors.chmod(0o666)  # one is run as nobody
        python = folder / _PYTHON
        python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m bench.faults.victim_worker "$@"\n')
        python.chmod(0o755)
        command = [sys.executable, "-m", "bench.faults.victim", str(folder)]
        self._forker = subprocess.Popen(  # noqa: S603 - our own program
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | ENVIRONMENT
        )

    def start(
        self,
        arguments: Sequence[str],
        orders: Orders | None = None,
        *,
        file_bytes: int | None = None,
        unprivileged: bool = False,
    ) -> int:
        """Start `pergamon ARGUMENTS` in a session of its own; its process id.

        Args:
            file_bytes: that a file may have at most, as if the disk were full then.
            unprivileged: give up being the superuser, whom no permissions stop.
        """
        job: dict[str, Any] = {"arguments": list(arguments), "orders": orders and asdict(orders)}
        return self._ask(job | {"file_bytes": file_bytes, "unprivileged": unprivileged})

    def wait(self, process: int) -> int:
        """The exit status of one that was started; negative for a signal. Once for each."""
        return self._ask({"wait": process})

    def run(self, arguments: Sequence[str], *, file_bytes: int | None = None, unprivileged: bool = False) -> int:
        """The exit status of a command without orders; what it says is all that is said then."""
        self._errors.write_text("")
        return self.wait(self.start(arguments, file_bytes=file_bytes, unprivileged=unprivileged))

    def last_words(self) -> str:
        """The last line that any of them has said."""
        return (self._errors.read_text(errors="replace").splitlines() or [""])[-1]

    def _ask(self, job: dict[str, Any]) -> int:
        assert self._forker.stdin is not None
        assert self._forker.stdout is not None
        print(json.dumps(job), file=self._forker.stdin, flush=True)
        return int(self._forker.stdout.readline())

    def close(self) -> None:
        assert self._forker.stdin is not None
        self._forker.stdin.close()
        self._forker.wait(30)
        assert self._forker.stdout is not None
        self._forker.stdout.close()


def alive(sessions: Sequence[int]) -> Iterator[int]:
    """Processes of these sessions that have not ended."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, session, *_ = (folder / "stat").read_text(errors="replace").rpartition(") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
        if int(session) in sessions and state not in "ZX":
            yield int(folder.name)


def wait_for_end(sessions: Sequence[int], seconds: float) -> list[int]:
    """Processes of these sessions that still go on so much later."""
    deadline = time.monotonic() + seconds
    while (left := list(alive(sessions))) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
    return left


def _run(job: dict[str, Any], folder: Path) -> None:
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    errors = os.open(folder / _ERRORS, os.O_WRONLY | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(errors, descriptor)
    if job["file_bytes"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_bytes"], job["file_bytes"]))
    if job["unprivileged"] and os.geteuid() == 0:
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
    sys.argv = ["pergamon", *job["arguments"]]
    if job["orders"] is not None:
        orders = orders_from(job["orders"])
        orders.pass_on()
        sys.executable = str(folder / _PYTHON)
        follow(orders)
    import_module(_COMMAND).main()


def main() -> None:
    import_module(_COMMAND)  # before forking
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            _, status = os.waitpid(job["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201
            continue
        child = os.fork()
        if child == 0:
            _run(job, Path(sys.argv[1]))
            return
        print(child, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
