"""What a process does that may open few files."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def may_open(files: int) -> Iterator[None]:
    """Only so many more files than are open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = {int(path.name) for path in Path("/proc/self/fd").iterdir()}
    free = [number for number in range(2 * len(used) + files + 1) if number not in used]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[files], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
