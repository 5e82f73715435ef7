"""The documents that a task's scan admitted, kept until its segments are written: each source is read once.

A zstd stream of JSON arrays, one a line: document id, text, title, source, attributes, and the file and line that it
was found at. A document's ordinal is the number of its line, from 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import zstandard
from numpy.typing import NDArray

from datastore.documents import Document
from datastore.errors import DataLoss
from datastore.sources.found import Found

_BLOCK_BYTES = 1 << 20
_LEVEL = 1


class SpoolWriter:
    """Writes documents; a context manager, whose end has everything in the file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._stream = zstandard.ZstdCompressor(level=_LEVEL).stream_writer(self._file)
        self.documents = 0

    def add(self, found: Found) -> None:
        document, file, line = found
        values = (document.document_id, document.text, document.title, document.source, dict(document.attributes))
        record = json.dumps((*values, file, line), ensure_ascii=False, separators=(",", ":"))
        # A file's name may have bytes that are no characters.
        self._stream.write(record.encode(errors="surrogatepass") + b"\n")
        self.documents += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._stream.flush(zstandard.FLUSH_FRAME)
        finally:
            self._file.close()


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a spool, in order, to be decoded by `decode`.

    Raises:
        DataLoss: it is not what was written.
    """
    held = b""
    try:
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
            while block := stream.read(_BLOCK_BYTES):
                first, feed, rest = block.partition(b"\n")
                if not feed:
                    held += block  # a long line comes in few blocks
                    continue
                yield held + first
                *lines, held = rest.split(b"\n")
                yield from lines
    except (OSError, zstandard.ZstdError) as error:
        raise _damaged(path, error) from None


def decode(line: bytes) -> Found:
    document_id, text, title, source, attributes, file, number = json.loads(line.decode(errors="surrogatepass"))
    return Found(Document(document_id, text, title, source, attributes), file, number)


def read_spool(path: Path, decisions: NDArray[np.uint8] | None = None) -> Iterator[Found]:
    """The documents that `decisions` keep (by ordinal, those with 0), in order; None keeps all."""
    for ordinal, line in enumerate(read_lines(path)):
        if decisions is None or not decisions[ordinal]:
            yield decode(line)


def _damaged(path: Path, error: Exception) -> DataLoss:
    return DataLoss(f"{path} is damaged: {error}", mend="remove the folder of the unfinished store and build it again")
