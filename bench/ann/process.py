"""An engine's process, driven from here: pinned cores, a timeout for every command, and its errors by name."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.ann.machine import blas_kernel
from datastore.errors import DeadlineExceeded, FailedPrecondition, Unavailable

_ROOT = Path(__file__).resolve().parents[2]
_WORKER = Path(__file__).with_name("worker.py")
_STOP_S = 20.0


class EngineProcess:
    """`bench/ann/worker.py` for one engine.

    Args:
        python: interpreter of the engine's environment; None takes this one, with this project importable.
        cores: pinned to these, before anything is imported.
        memory_cgroup: a prepared memory cgroup (v1 or v2) that the process joins, so that its limit covers the page
            cache of what it reads; its limit is the caller's to set.
    """

    def __init__(self, name: str, python: Path | None, cores: Sequence[int], memory_cgroup: Path | None = None) -> None:
        self.name = name
        self._python = python
        count = str(len(cores))
        environment = dict(os.environ)
        environment.update(OMP_NUM_THREADS=count, OPENBLAS_NUM_THREADS=count, RAYON_NUM_THREADS=count)
        environment.update(LANCE_CPU_THREADS=count, TOKIO_WORKER_THREADS=count, TF_CPP_MIN_LOG_LEVEL="2")
        if (kernel := blas_kernel()) is not None:
            environment.setdefault("OPENBLAS_CORETYPE", kernel)
        for name_of_ours in ("PYTHONPATH", "OMP_WAIT_POLICY"):
            environment.pop(name_of_ours, None)
        if python is None:
            environment["OMP_WAIT_POLICY"] = "PASSIVE"  # as the command sets it
            environment["PYTHONPATH"] = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])

        def prepare() -> None:
            os.sched_setaffinity(0, set(cores))
            if memory_cgroup is not None:
                (memory_cgroup / "cgroup.procs").write_text(str(os.getpid()))

        try:
            self._process = subprocess.Popen(  # noqa: S603 (our own command)
                [str(python or sys.executable), "-P", str(_WORKER), name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
                preexec_fn=prepare,  # noqa: PLW1509 (before the child's first thread)
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise Unavailable(
                f"the process of the engine {name} cannot be started: {error}",
                mend="check --peers-python and --memory-cgroup",
            ) from None

    def ask(self, command: str, timeout_s: float, **fields: Any) -> dict[str, Any]:
        """The reply to one command.

        Raises:
            FailedPrecondition: the engine's package is not installed in its environment, or the engine failed.
            DeadlineExceeded: no reply within `timeout_s`; the process is of no use after that.
            Unavailable: the process ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it ended: the reply says so
            self._process.stdin.write(json.dumps({"do": command, **fields}) + "\n")
            self._process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            ready = selector.select(timeout_s)
        if not ready:
            raise DeadlineExceeded(f"{self.name}: {command} took more than {timeout_s:.0f} s", mend="allow more time")
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            raise Unavailable(f"{self.name}: its process ended in {command}, with status {status}", mend="see above")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            missing = reply.get("missing") if reply["error"].startswith("ModuleNotFoundError") else None
            mend = (
                f"{self._python or sys.executable} lacks {missing}: run bench/ann/make_peers_env.sh and name its Python"
            )
            raise FailedPrecondition(
                f"{self.name}: {command} failed: {reply['error']}", mend=mend if missing else "see the engine's words"
            )
        return reply

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(_STOP_S if kind is None else 1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
