"""What this process holds in memory, now and at most."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

_INTERVAL_S = 0.01


def memory() -> dict[str, int]:
    """Resident bytes of this process: its own (anonymous and shared memory), and pages of files, which are cache."""
    fields = dict(
        line.split(":", 1)
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    )

    def size(name: str) -> int:
        return int(fields[name].split()[0]) * 1024

    return {"anonymous_bytes": size("RssAnon") + size("RssShmem"), "file_bytes": size("RssFile")}


class PeakMemory:
    """`bytes`, after the block: the most anonymous memory seen in it, looked at a hundred times a second.

    The kernel's own high-water mark counts pages of mapped files too.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._ended.wait(_INTERVAL_S):
            self._look()

    def _look(self) -> None:
        self.bytes = max(self.bytes, memory()["anonymous_bytes"])
