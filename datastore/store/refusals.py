"""What the system refuses while a store is written, in our words."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datastore.errors import InvalidArgument, PergamonError, ResourceExhausted


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
