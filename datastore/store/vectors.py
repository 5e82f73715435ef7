"""Exact vectors on disk: `vectors.f16`, little-endian float16 [passages, dimension], row-aligned, no header."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from datastore.errors import DataLoss, InvalidArgument
from datastore.store.block_sums import BLOCK_ROWS, BlockSums, sums_path, write_block_sums
from datastore.store.checksums import MEND
from datastore.store.vector_journal import VectorJournal

_DTYPE = np.dtype("<f2")
VALUE_BYTES = _DTYPE.itemsize
LOOKED_AT = 4
"""Rows of a batch that are looked for in memory, before all are asked for."""
_FLOAT16_MAX = float(np.finfo(np.float16).max)


class VectorWriter:
    """Appends rows to a vectors file, and at the end writes the checksums of its blocks beside it.

    Args:
        journal: the file's journal of batches; where an earlier writer was killed, its whole batches are kept.
    """

    def __init__(self, path: Path, dimension: int, journal: VectorJournal | None = None) -> None:
        self._path = path
        self._dimension = dimension
        self._journal = journal
        self._file = None if journal is not None else path.open("wb")

    def holds(self, texts: Sequence[str]) -> bool:
        """Whether the next batch, of these texts, is in the file already: then it must not be added."""
        return self._file is None and self._journal is not None and self._journal.find(texts)

    def add(self, vectors: NDArray[np.float32], texts: Sequence[str] = ()) -> None:
        """Append float32 [n, dimension], the vectors of n texts (which the journal alone needs).

        Raises:
            InvalidArgument: the shape is another, or a value has no float16 (NaN, infinite, beyond 65,504).
        """
        if vectors.ndim != 2 or vectors.shape[1] != self._dimension:
            raise InvalidArgument(
                f"vectors have the shape {vectors.shape}; wanted (n, {self._dimension})", mend="check the encoder"
            )
        if vectors.size and not np.abs(vectors).max() <= _FLOAT16_MAX:
            raise InvalidArgument(
                "a vector has a value that is not finite or beyond 65504, the largest float16",
                mend="check the encoder, or build with encoder.normalize = true",
            )
        data = np.ascontiguousarray(vectors, dtype=_DTYPE).tobytes()
        file = self._opened()
        file.write(data)
        if self._journal is not None:
            file.flush()
            self._journal.add(texts, data)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            assert self._journal is not None
            self._journal.cut()
            self._file = self._path.open("ab")
        return self._file

    def close(self) -> None:
        self._opened().close()
        write_block_sums(self._path, self._dimension * VALUE_BYTES)

    def abort(self) -> None:
        """Let go of the file, whatever state it is in: it will be removed, or gone on with by its journal."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # closing writes what is left in memory, which a full disk refuses again
                self._file.close()


class VectorFile:
    """Random access to the rows of a vectors file; thread-safe. Memory use does not grow with the file.

    Reads go through a memory map with read-ahead off, after a WILLNEED for every row: the kernel then has all rows of a
    batch in flight at once, which on a cold file is several times faster than page faults one after another.

    Where the file has checksums of its blocks beside it (`block_sums.py`), every way of reading but `matrix` compares
    them, and raises DataLoss for what was changed.
    """

    def __init__(self, path: Path, rows: int, dimension: int) -> None:
        self.rows = rows
        self.dimension = dimension
        self._row_bytes = dimension * _DTYPE.itemsize
        self._file = path.open("rb")
        size = os.fstat(self._file.fileno()).st_size
        if size != rows * self._row_bytes:
            self._file.close()
            raise DataLoss(
                f"{path} has {size} bytes; {rows} rows of {dimension} float16 need {rows * self._row_bytes}",
                mend=MEND,
            )
        self._map: mmap.mmap | None = None
        self.matrix: NDArray[np.float16] = np.empty((0, dimension), _DTYPE)
        """float16 [rows, dimension], mapped; before it is read, `check` should have been called."""
        self.sums: BlockSums | None = None
        """None for a file without checksums, as in the first stores."""
        try:
            if rows:
                self._map_rows(path)
        except BaseException:
            self.close()
            raise

    def _map_rows(self, path: Path) -> None:
        self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_RANDOM"):
            self._map.madvise(mmap.MADV_RANDOM)
        self.matrix = np.frombuffer(self._map, _DTYPE).reshape(self.rows, self.dimension)
        if sums_path(path).exists():
            self.sums = BlockSums(path, memoryview(self._map), self._row_bytes)

    def check(self, rows: NDArray[np.int64] | None = None) -> None:
        """Raise DataLoss unless these rows, or all, are what was written; does nothing for a file without checksums."""
        sums = self.sums
        if sums is not None and rows is None:
            sums.check_all()
        elif sums is not None and rows is not None:
            sums.check(rows)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 [len(rows), dimension], in the order of `rows`."""
        read = np.empty((len(rows), self.dimension), _DTYPE)
        self.prefetch(rows)
        self.read_into(rows, read)
        return widened(read)

    def prefetch(self, rows: NDArray[np.int64]) -> None:
        """Have the kernel read all these rows at once, unless they seem to be in memory already.

        Asking for a row costs a system call even when it is there; so a few of them are looked at first. Where blocks
        are still to be compared, whole blocks are asked for.
        """
        if not hasattr(os, "posix_fadvise") or self.in_memory(rows[:: -(-len(rows) // LOOKED_AT) or 1]):
            return
        descriptor, size = self._file.fileno(), self._row_bytes
        at_once = 1 if self.sums is None else BLOCK_ROWS
        for row in (rows - rows % at_once).tolist():
            os.posix_fadvise(descriptor, row * size, at_once * size, os.POSIX_FADV_WILLNEED)

    def read_into(self, rows: NDArray[np.int64], out: NDArray[np.float16]) -> None:
        """Copy rows to float16 [len(rows), dimension]."""
        self.check(rows)
        np.take(self.matrix, rows, axis=0, out=out, mode="clip")

    def read_block(self, start: int, stop: int) -> NDArray[np.float32]:
        """float32 [stop - start, dimension], in order: the file's own read-ahead serves a whole pass, the map has none.

        Raises:
            DataLoss: the file has become shorter.
        """
        read = np.empty((stop - start, self.dimension), _DTYPE)
        left, offset = read.data.cast("B"), start * self._row_bytes
        while left:
            count = os.preadv(self._file.fileno(), [left], offset)
            if count == 0:
                raise DataLoss(f"{self._file.name} ends at byte {offset}", mend=MEND)
            left, offset = left[count:], offset + count
        self.check(np.arange(start, stop))
        return widened(read)

    def in_memory(self, rows: NDArray[np.int64]) -> bool:
        """Whether all these rows seem to be, by looking at each."""
        if not hasattr(os, "RWF_NOWAIT"):
            return False
        descriptor, size = self._file.fileno(), self._row_bytes
        scratch = [bytearray(size)]
        try:
            return all(os.preadv(descriptor, scratch, row * size, os.RWF_NOWAIT) == size for row in rows.tolist())
        except OSError:  # not in memory, or a file system that cannot tell
            return False

    def blocks(self, block_rows: int = 16_384) -> list[NDArray[np.float16]]:
        """`matrix` in consecutive views."""
        self.check()
        return [self.matrix[start : start + block_rows] for start in range(0, self.rows, block_rows)]

    def close(self) -> None:
        # Arrays handed out may still view the map; it goes with the last of them.
        self.matrix = np.empty((0, self.dimension), _DTYPE)
        self.sums = None
        self._map = None
        self._file.close()

    def __enter__(self) -> VectorFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_AFTER_SIGN = np.int32(-0x70002000)  # 0x8FFFE000: sign, and where a float16's exponent and fraction come to lie
_BIAS = np.float32(2.0**112)
_BLOCK_VALUES = 1 << 14


def widened(stored: NDArray[np.float16]) -> NDArray[np.float32]:
    """Finite, contiguous float16 values as float32, exactly: at four times the speed of numpy's own conversion.

    The bits move to where float32 has them, and the product corrects the exponent, of subnormal values too.
    """
    bits = np.empty(stored.shape, np.int32)
    source, target = stored.view(np.int16).reshape(-1), bits.reshape(-1)
    for start in range(0, len(target), _BLOCK_VALUES):  # in pieces that stay in the cache
        block = target[start : start + _BLOCK_VALUES]
        np.left_shift(source[start : start + _BLOCK_VALUES], 13, out=block, dtype=np.int32)
        np.bitwise_and(block, _AFTER_SIGN, out=block)
        values = block.view(np.float32)
        np.multiply(values, _BIAS, out=values)
    return bits.view(np.float32)


def inner_products(vectors: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inner product of each row of float32 [n, dimension] with float32 [dimension].

    A row's result does not depend on the other rows (einsum sums each row by itself, where a BLAS product blocks over
    rows), so the same passage has the same score to the last digit on every shard.
    """
    scores: NDArray[np.float32] = np.einsum("ij,j->i", vectors, query)
    return scores
