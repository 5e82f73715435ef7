"""Worker processes on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datastore.devices import DeviceChoice
from datastore.errors import Unavailable
from datastore.tasks.stages import OnStep, Stage
from datastore.tasks.worker import error_from_plain, step_from_plain
from datastore.tasks.workspace import Workspace

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
_LAST_WORDS = 4096


Messages = queue.SimpleQueue[tuple[int, dict[str, Any] | None]]
"""Which worker said what; None at its end."""


class Processes:
    """Implements `datastore.tasks.executors.Executor`: a stage's tasks go to whichever process is free.

    Args:
        threads: of the arithmetic of each; their number decides how sums are rounded, so it does not follow `workers`.
    """

    def __init__(
        self, workspace: Workspace, device: DeviceChoice, workers: int, threads: int, cache: Path | None
    ) -> None:
        self._cache = [str(cache.absolute())] if cache is not None else []
        self._store = str(workspace.store.absolute())
        self._device = device
        self._workers = workers
        self._environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))
        self._processes: list[_Process] = []
        self._messages: Messages = queue.SimpleQueue()

    def run(self, stage: Stage, tasks: Sequence[int], on_step: OnStep) -> None:
        if not tasks:
            return
        count = min(self._workers, len(tasks))  # more would have nothing to do
        while len(self._processes) < count:
            number = len(self._processes)
            command = [self._store, device_of(self._device, number), *self._cache]
            self._processes.append(_Process(command, number, self._environment, self._messages))
        for process in self._processes[:count]:
            process.send({"stage": stage, "tasks": list(tasks)})
        while count:
            number, message = self._messages.get()
            if message is None:
                raise self._processes[number].lost()
            if "error" in message:
                raise error_from_plain(message["error"])
            if "step" in message:
                on_step(step_from_plain(message["step"]))
            else:
                count -= 1

    def close(self) -> None:
        """Have all of them gone."""
        for process in self._processes:
            process.end()


def device_of(device: DeviceChoice, worker: int) -> str:
    """Of several GPUs that were named, the one that a worker computes on."""
    if len(device.numbers) < 2:
        return str(device)
    return f"{device.kind}:{device.numbers[worker % len(device.numbers)]}"


class _Process:
    """One worker, and a thread that hears it."""

    def __init__(self, command: list[str], number: int, environment: dict[str, str], messages: Messages) -> None:
        self._number = number
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "datastore.tasks.worker", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
        )
        self._thread = threading.Thread(target=self._hear, args=(messages,), daemon=True)
        self._thread.start()

    def send(self, job: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: `_hear` says so
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()

    def _hear(self, messages: Messages) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            messages.put((self._number, json.loads(line)))
        messages.put((self._number, None))

    def lost(self) -> Unavailable:
        """How it came to an end that nobody wanted."""
        status = self._process.wait()
        self._errors.seek(0)
        words = self._errors.read()[-_LAST_WORDS:].decode(errors="replace").strip().rpartition("\n")[2]
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return Unavailable(
            f"worker {self._number} {how}" + (f": {words}" if words else ""),
            mend="run the same command again: it goes on where the worker was",
        )

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._thread.join()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
