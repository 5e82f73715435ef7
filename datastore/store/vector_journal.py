"""Which vectors of an unfinished segment are there already: a build that was killed encodes them no second time.

The journal has a record for each batch: rows (4 bytes), XXH3-128 of its texts and XXH3-128 of its vectors' bytes,
written after the vectors. What a killed process has written stays with the kernel, so neither file is synced; where
the power failed, the checksums tell what is left.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import xxhash

_RECORD = struct.Struct("<I16s16s")


class VectorJournal:
    """The batches of one vectors file, in order.

    A writer asks for each batch with `find` whether it has been written; from the first one on that has not, it adds.

    Args:
        path: of the journal; made, or read where an earlier writer left it.
        vectors: the vectors file that it is about.
        row_bytes: of one vector.
    """

    def __init__(self, path: Path, vectors: Path, row_bytes: int) -> None:
        content = path.read_bytes() if path.exists() and vectors.exists() else b""
        whole = len(content) - len(content) % _RECORD.size
        self._left = [_RECORD.unpack_from(content, at) for at in range(0, whole, _RECORD.size)][::-1]
        self._path = path
        self._vectors = vectors
        self._row_bytes = row_bytes
        self.rows = 0
        """Of the batches found so far."""
        self._batches = 0

    def find(self, texts: Sequence[str]) -> bool:
        """Whether the next batch is of these texts, and its vectors are in the file, undamaged."""
        if not self._left:
            return False
        rows, seen_texts, seen_vectors = self._left.pop()
        if rows == len(texts) and seen_texts == digest_texts(texts):
            with self._vectors.open("rb") as file:
                file.seek(self.rows * self._row_bytes)
                if xxhash.xxh3_128_digest(file.read(rows * self._row_bytes)) == seen_vectors:
                    self.rows += rows
                    self._batches += 1
                    return True
        self._left = []
        return False

    def cut(self) -> None:
        """Forget what comes after the batches found, in both files: what is added now takes its place."""
        self._left = []
        for path, size in ((self._path, self._batches * _RECORD.size), (self._vectors, self.rows * self._row_bytes)):
            with path.open("ab") as file:
                file.truncate(size)

    def add(self, texts: Sequence[str], data: bytes) -> None:
        """Note a batch whose vectors' bytes, `data`, the vectors file has now."""
        with self._path.open("ab") as file:
            file.write(_RECORD.pack(len(texts), digest_texts(texts), xxhash.xxh3_128_digest(data)))


def digest_texts(texts: Sequence[str]) -> bytes:
    """16 bytes that tell these texts, in this order, from others."""
    digest = xxhash.xxh3_128()
    for text in texts:
        data = text.encode(errors="surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()
