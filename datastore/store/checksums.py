"""Checksums of stored files: XXH3 with 128 bits, against accident, at memory speed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import xxhash

from datastore.errors import DataLoss, FailedPrecondition, PergamonError
from datastore.store.refusals import exhausted

_BLOCK = 1 << 20
MEND = "run pergamon repair on the store, or restore the file from a copy"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What the manifest says of one file. `path` is relative to the store, with `/` between its parts."""

    path: str
    bytes: int
    xxh3_128: str


def hash_bytes(data: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(data)


def hash_file(path: Path) -> str:
    """Hexadecimal XXH3-128 of the file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hash_stream(file)


def hash_stream(file: BinaryIO) -> str:
    """The same of what is left of an open file."""
    digest = xxhash.xxh3_128()
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def record_file(store: Path, path: Path) -> FileRecord:
    return FileRecord(path.relative_to(store).as_posix(), path.stat().st_size, hash_file(path))


def check_size(store: Path, record: FileRecord) -> None:
    """Raise DataLoss unless the file is there with its recorded size; FailedPrecondition where it may not be read."""
    path = store / record.path
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise DataLoss(f"{path} is missing: {error.strerror}", mend=MEND) from None
    except OSError as error:
        raise unreadable(path, error) from None
    if size != record.bytes:
        raise DataLoss(f"{path} has {size} bytes; the manifest says {record.bytes}", mend=MEND)


def check_file(store: Path, record: FileRecord) -> None:
    """Raise DataLoss unless the file's bytes are what was recorded: reads all of it. Otherwise as `check_size`."""
    check_size(store, record)
    path = store / record.path
    try:
        seen = hash_file(path)
    except OSError as error:
        raise unreadable(path, error) from None
    if seen != record.xxh3_128:
        raise DataLoss(f"{path} is damaged: its checksum is {seen}, wanted {record.xxh3_128}", mend=MEND)


def unreadable(path: Path, error: Exception) -> PergamonError:
    """What it means that a file of a store cannot be read, as the system or a library says.

    What may not be read, or for which something is lacking, need not be damaged, and must not be repaired.
    """
    if isinstance(error, PermissionError):
        return FailedPrecondition(f"{path} may not be read: permission denied", mend="check its owner and permissions")
    if short := exhausted(path, error):
        return short
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return DataLoss(f"{path} cannot be read: {reason}", mend=MEND)


@contextlib.contextmanager
def reading(store: Path) -> Iterator[None]:
    """Turn what the system refuses while a store is opened into `unreadable`."""
    try:
        yield
    except OSError as error:
        raise unreadable(Path(error.filename or store), error) from None


def is_whole(store: Path, record: FileRecord) -> bool:
    """Whether `check_file` finds no damage. FailedPrecondition where the file may not be read."""
    try:
        check_file(store, record)
    except DataLoss:
        return False
    return True


class FilesCheck:
    """Some files whose bytes are compared once, when they are first needed; thread-safe. What is damaged stays so."""

    def __init__(self, store: Path, records: Sequence[FileRecord]) -> None:
        self._store = store
        self._left = list(records)
        self._lock = threading.Lock()

    def __call__(self) -> None:
        """Raise DataLoss unless all of them are what was recorded."""
        if self._left:
            with self._lock:
                while self._left:
                    check_file(self._store, self._left[-1])
                    self._left.pop()

    def close(self) -> None:
        """Nothing is open."""
