"""Checksums of stored files: XXH3 with 128 bits, against accident, at memory speed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import xxhash

_BLOCK = 1 << 22


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
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def record_file(store: Path, path: Path) -> FileRecord:
    return FileRecord(path.relative_to(store).as_posix(), path.stat().st_size, hash_file(path))
