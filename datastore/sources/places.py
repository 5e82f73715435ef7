"""Where inputs lie, and how their bytes are read."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from datastore.errors import DataLoss
from datastore.sources.rejects import EXCERPT_CHARACTERS, RefusedError, Rejects


def open_bytes(location: str, start: int = 0) -> BinaryIO:
    """The bytes of a file from `start` on. Raises OSError."""
    stream = Path(location).open("rb")  # noqa: SIM115  (the caller closes it)
    stream.seek(start)
    return stream


def size_of(location: str) -> int:
    """Bytes of a file. Raises OSError."""
    return Path(location).stat().st_size


def read_file(location: str, rejects: Rejects, max_bytes: int) -> bytes | None:
    """A file's content, or None where it is larger than `max_bytes`: then it is rejected, and its beginning read alone.

    Raises:
        DataLoss: it cannot be read.
    """
    try:
        size = size_of(location)
        with open_bytes(location) as stream:
            content = stream.read(max_bytes + 1)
    except OSError as error:
        raise unreadable(location, error) from error
    size = max(size, len(content))
    if size <= max_bytes:
        return content
    refused = RefusedError("too large", f"{size} bytes; at most {max_bytes} are taken")
    rejects.add(location, 1, refused, content[: 4 * EXCERPT_CHARACTERS])
    return None


def unreadable(location: str, error: OSError, where: str = "") -> DataLoss:
    return DataLoss(
        f"{location} cannot be read{where}: {error.strerror or error}", mend="make the file readable and run again"
    )
