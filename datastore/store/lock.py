"""One writer at a time: an advisory lock on a file of the store, which the kernel lets go when its holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datastore.errors import Unavailable

LOCK_NAME = "write.lock"


@contextmanager
def write_lock(store: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the store's write lock; makes the folder where there is none.

    Args:
        shared: with others who share it: those who do the tasks of one build.

    Raises:
        Unavailable: another process is writing.
    """
    store.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(store / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(
                f"another process is writing to {store}", mend="wait until it has finished, then run this again"
            ) from None
        yield
    finally:
        os.close(descriptor)
