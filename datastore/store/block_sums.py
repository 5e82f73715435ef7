"""Checksums of a vectors file's blocks of 16 rows, each compared when a row of its block is first read.

A row is read by itself from a mapped file, so a checksum of the whole file says nothing at that moment, and a changed
byte would change a score without a word. `vectors.xxh3` has the XXH3 of 64 bits of each block, little-endian, in order;
the last block may be short. What has been found right once is not looked at again.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from datastore.errors import DataLoss
from datastore.store.checksums import MEND

BLOCK_ROWS_LOG2 = 4
BLOCK_ROWS = 1 << BLOCK_ROWS_LOG2
"""Of 384 dimensions 12 KiB: what a disk reads in one go, at half a byte of checksums a row."""
_SUM = np.dtype("<u8")


def sums_path(vectors: Path) -> Path:
    """`vectors.f16` -> `vectors.xxh3`, beside it."""
    return vectors.with_suffix(".xxh3")


def write_block_sums(vectors: Path, row_bytes: int) -> None:
    """Write the checksums of a finished vectors file beside it."""
    sums = []
    with vectors.open("rb") as file:
        while block := file.read(BLOCK_ROWS * row_bytes):
            sums.append(xxhash.xxh3_64_intdigest(block))
    sums_path(vectors).write_bytes(np.array(sums, _SUM).tobytes())


class BlockSums:
    """The checksums of an open vectors file; thread-safe.

    Args:
        data: the bytes of the vectors file, mapped.

    Raises:
        DataLoss: there are not as many checksums as the file has blocks.
    """

    def __init__(self, vectors: Path, data: memoryview, row_bytes: int) -> None:
        self._vectors = vectors
        self._data = data
        self._block_bytes = BLOCK_ROWS * row_bytes
        blocks = -(-len(data) // self._block_bytes)
        path = sums_path(vectors)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != blocks * _SUM.itemsize:
                raise DataLoss(
                    f"{path} has {size} bytes; the checksums of {blocks} blocks need {blocks * _SUM.itemsize}",
                    mend=MEND,
                )
            self._sums = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), _SUM)
        self.right = np.zeros(blocks, np.bool_)
        """Which blocks have been compared."""

    def check(self, rows: NDArray[np.int64]) -> None:
        """Raise DataLoss unless the blocks of all these rows are what was written."""
        blocks = rows >> BLOCK_ROWS_LOG2
        if not self.right[blocks].all():
            self._compare(np.unique(blocks[~self.right[blocks]]))

    def check_all(self) -> None:
        self._compare(np.flatnonzero(~self.right))

    def _compare(self, blocks: NDArray[np.int64]) -> None:
        for block, wanted in zip(blocks.tolist(), self._sums[blocks].tolist(), strict=True):
            start = block * self._block_bytes
            if xxhash.xxh3_64_intdigest(self._data[start : start + self._block_bytes]) != wanted:
                first = block * BLOCK_ROWS
                raise DataLoss(
                    f"{self._vectors} is damaged: rows {first} to {first + BLOCK_ROWS - 1} do not have the checksum "
                    f"that {sums_path(self._vectors).name} says",
                    mend=MEND,
                )
        self.right[blocks] = True
