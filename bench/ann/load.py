"""What other processes took of the pinned processors: a figure is as good as the quiet in which it was taken."""

from __future__ import annotations

import os
import time
from pathlib import Path

_BUSY = (0, 1, 2, 5, 6, 7)  # user, nice, system, irq, softirq, stolen by the hypervisor


class OtherLoad:
    """Counts from its making to `share()`. The kernel counts in hundredths of a second: measure tenths at least."""

    def __init__(self) -> None:
        self._start = (time.perf_counter(), time.process_time(), _busy_seconds())

    def share(self) -> float:
        """Of the time of this process's processors, what others used: 0 to 1."""
        wall, own, busy = (
            now - then
            for now, then in zip((time.perf_counter(), time.process_time(), _busy_seconds()), self._start, strict=True)
        )
        available = wall * len(os.sched_getaffinity(0))
        return min(max((busy - own) / available, 0.0), 1.0) if available > 0 else 0.0


def _busy_seconds() -> float:
    names = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    ticks = 0
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        name, *counts = line.split()
        if name in names:
            ticks += sum(int(counts[index]) for index in _BUSY)
    return ticks / os.sysconf("SC_CLK_TCK")
