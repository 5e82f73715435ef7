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
from typing import IO, Any

from datastore.devices import DeviceChoice
from datastore.errors import Unavailable
from datastore.tasks.stages import OnStep, Stage
from datastore.tasks.worker import error_from_plain, step_from_plain
from datastore.tasks.workspace import Workspace

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
_LAST_WORDS = 4096


class Processes:
    """Implements `datastore.tasks.executors.Executor`: a stage's tasks go to whichever process is free.

    Args:
        threads: of the arithmetic of each; their number decides how sums are rounded, so it does not follow `workers`.
    """

    def __init__(self, workspace: Workspace, device: DeviceChoice, workers: int, threads: int) -> None:
        self._store = str(workspace.store.absolute())
        self._device = device
        self._workers = workers
        self._environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))

    def run(self, stage: Stage, tasks: Sequence[int], on_step: OnStep) -> None:
        messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        # More than there are tasks would have nothing to do.
        workers = [self._start(stage, tasks, number, messages) for number in range(min(self._workers, len(tasks)))]
        try:
            ended = 0
            while ended < len(workers):
                message = messages.get()
                if message is None:
                    ended += 1
                elif "step" in message:
                    on_step(step_from_plain(message["step"]))
                else:
                    raise error_from_plain(message["error"])
            for worker in workers:
                worker.check()
        finally:
            for worker in workers:
                worker.end()

    def _start(
        self, stage: Stage, tasks: Sequence[int], number: int, messages: queue.SimpleQueue[dict[str, Any] | None]
    ) -> _Process:
        job = {"store": self._store, "device": device_of(self._device, number), "stage": stage, "tasks": list(tasks)}
        return _Process(job, number, self._environment, messages)


def device_of(device: DeviceChoice, worker: int) -> str:
    """Of several GPUs that were named, the one that a worker computes on."""
    if len(device.numbers) < 2:
        return str(device)
    return f"{device.kind}:{device.numbers[worker % len(device.numbers)]}"


class _Process:
    """One worker, and a thread that hears it."""

    def __init__(
        self,
        job: dict[str, Any],
        number: int,
        environment: dict[str, str],
        messages: queue.SimpleQueue[dict[str, Any] | None],
    ) -> None:
        self._number = number
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self._process = subprocess.Popen(
            [sys.executable, "-m", "datastore.tasks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it ended already: `check` says how
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
        self._thread = threading.Thread(target=_hear, args=(self._process.stdout, messages), daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise Unavailable unless it came to a good end."""
        status = self._process.wait()
        if status:
            self._errors.seek(0)
            words = self._errors.read()[-_LAST_WORDS:].decode(errors="replace").strip().rpartition("\n")[2]
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            raise Unavailable(
                f"worker {self._number} {how}" + (f": {words}" if words else ""),
                mend="run the same command again: it goes on where the worker was",
            )

    def end(self) -> None:
        """Have it gone."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._thread.join()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def _hear(stream: IO[bytes], messages: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    for line in stream:
        messages.put(json.loads(line))
    messages.put(None)
