"""What the system refuses while a store is written, in our words."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datastore.errors import InvalidArgument, PergamonError, ResourceExhausted

_URL = re.compile(r"[a-z][a-z0-9+.]+:/")


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
        # Of a copy or a rename the second is where it went.
        what = f"{error.filename2 or error.filename or store}: {error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise ResourceExhausted(f"no space left: {what}", mend="free some space and run it again") from None
        raise InvalidArgument(
            f"cannot write {what}",
            mend="choose a folder that can be written to, and run it again",
            field="store",
        ) from None
