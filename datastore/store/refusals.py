"""What the system refuses while a store is read or written, in our words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datastore.errors import InvalidArgument, PergamonError, ResourceExhausted

_URL = re.compile(r"[a-z][a-z0-9+.]+:/")
_EXHAUSTED = {
    "No space left on device": ("no space left", "free some space and run it again"),
    "Disk quota exceeded": ("no space left", "free some space and run it again"),
    "File too large": ("no space left", "free some space and run it again"),
    "Too many open files": ("too many files are open", "allow more of them, with ulimit -n 65536, and run it again"),
    "Cannot allocate memory": ("no memory left", "free some, or allow more maps (vm.max_map_count), and run it again"),
}
"""What the system says, and libraries that call it repeat -> in our words, and the mend."""


def exhausted(what: object, error: object) -> ResourceExhausted | None:
    """What an error means that says the system has none left of something; None of another.

    Args:
        what: it was lacking for; None where that is not known.
    """
    said = str(error)
    for words, (ours, mend) in _EXHAUSTED.items():
        if words in said:
            return ResourceExhausted(f"{ours}: {words if what is None else f'{what}: {words}'}", mend=mend)
    return None


def refuse_url(folder: Path, field: str) -> None:
    """Raise InvalidArgument of a path that was meant for a URL: it would be a folder with that name."""
    if _URL.match(folder.as_posix()):
        raise InvalidArgument(
            f"{folder} looks like a URL; wanted a folder of this machine",
            mend="write into a folder, and copy it there; a datastore goes there by pergamon snapshot",
            field=field,
        )


@contextmanager
def storage_errors(store: Path) -> Iterator[None]:
    """Turn the system's refusals into ours."""
    try:
        yield
    except PergamonError:
        raise
    except OSError as error:
        where = error.filename2 or error.filename or store  # of a copy or a rename the second is where it went
        if short := exhausted(where, error):
            raise short from None
        raise InvalidArgument(
            f"cannot write {where}: {error.strerror or error}",
            mend="choose a folder that can be written to, and run it again",
            field="store",
        ) from None
