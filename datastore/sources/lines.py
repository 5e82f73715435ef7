"""The lines of a file, plain or compressed, in memory that does not depend on the file."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import zstandard

from datastore.errors import DataLoss
from datastore.sources.rejects import EXCERPT_CHARACTERS, RefusedError

_BLOCK_BYTES = 1 << 16
_ZSTD_INPUT_BYTES = 1 << 10
"""A zstd block of 4 bytes can expand to 128 KiB, and all that an input expands to is returned at once: at most 32 MiB
for this many bytes."""
_KEPT_OF_TOO_LARGE = 4 * EXCERPT_CHARACTERS


class Line(NamedTuple):
    number: int
    """From 1; blank lines count."""
    content: bytes
    """Without the line feed. Of a line that is too large, the beginning."""
    refused: RefusedError | None = None


def read_lines(path: Path, max_bytes: int) -> Iterator[Line]:
    """The lines of `path`, decompressed by its suffix (`.gz`, `.zst`, several members or frames too).

    Lines end at a line feed and nowhere else. A longer line than `max_bytes` comes refused, with its beginning only.
    Where an archive is truncated or corrupt, the whole lines before the damage come first, then one refused line with
    the number of the line that the damage hit. At any time at most `max_bytes` and one decompressed block are held; a
    zstd frame may ask for a window of 128 MiB at most.

    Raises:
        DataLoss: the file cannot be read (any more).
    """
    number, size, held = 1, 0, bytearray()

    def hold(piece: bytes) -> None:
        nonlocal size
        size += len(piece)
        if size <= max_bytes:
            held.extend(piece)
        else:
            held.extend(piece[:_KEPT_OF_TOO_LARGE])
            del held[_KEPT_OF_TOO_LARGE:]

    def line() -> Line:
        if size <= max_bytes:
            return Line(number, bytes(held))
        return Line(number, bytes(held), RefusedError("too large", f"{size} bytes; at most {max_bytes} are taken"))

    try:
        for block in _DECOMPRESSORS.get(path.suffix.lower(), _read_plain)(path):
            start = 0
            while (end := block.find(b"\n", start)) >= 0:
                hold(block[start:end])
                yield line()
                number, size, start = number + 1, 0, end + 1
                held.clear()
            hold(block[start:])
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        detail = f"archive truncated or corrupt at line {number}: {error}"
        yield Line(number, bytes(held[:_KEPT_OF_TOO_LARGE]), RefusedError("damaged archive", detail))
        return
    except OSError as error:
        raise DataLoss(
            f"{path} cannot be read past line {number}: {error.strerror}", mend="make the file readable and run again"
        ) from error
    if size:
        yield line()


def _read_plain(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def _read_gzip(path: Path) -> Iterator[bytes]:
    with gzip.open(path, "rb") as file:
        while block := file.read1(_BLOCK_BYTES):  # unlike read, keeps what it has when the archive breaks off
            yield block


def _read_zstd(path: Path) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor()
    frame = None
    with path.open("rb") as file:
        while data := file.read(_ZSTD_INPUT_BYTES):
            while data:
                frame = frame or decompressor.decompressobj()
                yield frame.decompress(data)
                data = frame.unused_data
                if frame.eof:
                    frame = None
    if frame is not None:
        raise EOFError("the file ends inside a zstd frame")


_DECOMPRESSORS: dict[str, Callable[[Path], Iterator[bytes]]] = {".gz": _read_gzip, ".zst": _read_zstd}
