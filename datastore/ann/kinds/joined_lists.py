"""The lists of several segments read as if they were one segment's, some lists at a time.

The file of a segment has its codes list by list (docs/FORMAT.md), so those of consecutive lists lie together: a range
of lists is read with two reads a segment, and what is held at once is that range, not the index.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datastore.ann.spec import IndexSpec
from datastore.errors import DataLoss
from datastore.store.checksums import MEND, unreadable

_ENTRIES_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True)
class ListRange:
    """Some consecutive lists, one after the other; of `bounds` [lists + 1], list `first + i` has those from i to i + 1.

    Within a list, rows ascend.
    """

    first: int
    bounds: NDArray[np.int64]
    rows: NDArray[np.int64]
    codes: NDArray[np.uint8]
    """[entries, code_bytes]."""


class JoinedLists:
    """Files of lists of the same template, open for one pass; rows count on from segment to segment.

    Args:
        passages: of each segment.
        first_row: of the first segment.

    Raises:
        DataLoss: a file cannot be read, or does not have the entries that its passages need.
    """

    def __init__(self, paths: Sequence[Path], passages: Sequence[int], spec: IndexSpec, first_row: int = 0) -> None:
        self._spec = spec
        with ExitStack() as stack:
            self._files = [
                stack.enter_context(_ListFile(path, spec, count)) for path, count in zip(paths, passages, strict=True)
            ]
            self._bases = np.cumsum([first_row, *passages])[:-1]
            self._lengths = np.array([file.lengths for file in self._files], np.uint32).reshape(-1, spec.nlist)
            self.sizes: NDArray[np.int64] = self._lengths.sum(axis=0, dtype=np.int64)
            """Of every list, [nlist]."""
            self._stack = stack.pop_all()

    @property
    def no_codes(self) -> NDArray[np.uint8]:
        """[0, code_bytes]."""
        return np.empty((0, self._spec.code_bytes), np.uint8)

    def ranges(self) -> Iterator[ListRange]:
        """All lists in order, few enough at a time to hold some 65,536 entries; a longer list comes alone."""
        done = np.zeros(len(self._files), np.int64)
        for first, last in pairwise(_cuts(self.sizes)):
            lengths = self._lengths[:, first:last].astype(np.int64)
            yield self._read(first, lengths, done)
            done += lengths.sum(axis=1)

    def _read(self, first: int, lengths: NDArray[np.int64], done: NDArray[np.int64]) -> ListRange:
        """Lists of int64 [segments, lists] entries, of which each file has so many before them."""
        counts = lengths.sum(axis=1)
        starts = np.cumsum(counts) - counts
        rows = np.empty(counts.sum(), "<u4")
        codes = np.empty((len(rows), self._spec.code_bytes), np.uint8)
        for file, skipped, start, count in zip(
            self._files, done.tolist(), starts.tolist(), counts.tolist(), strict=True
        ):
            if count:
                file.read_into(skipped, rows[start : start + count], codes[start : start + count])
        global_rows = rows + np.repeat(self._bases, counts)
        bounds = np.concatenate([[0], np.cumsum(lengths.sum(axis=0))])
        if len(self._files) == 1:
            return ListRange(first, bounds, global_rows, codes)
        # What was read lies segment by segment; here is where the run of each segment and list belongs.
        runs = lengths.reshape(-1)
        come = np.cumsum(runs) - runs
        belong = (bounds[:-1] + np.cumsum(lengths, axis=0) - lengths).reshape(-1)
        places = np.repeat(belong - come, runs) + np.arange(len(rows))
        joined_rows, joined_codes = np.empty_like(global_rows), np.empty_like(codes)
        joined_rows[places] = global_rows
        joined_codes[places] = codes
        return ListRange(first, bounds, joined_rows, joined_codes)

    def __enter__(self) -> JoinedLists:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


class _ListFile:
    """One segment's file of lists."""

    def __init__(self, path: Path, spec: IndexSpec, passages: int) -> None:
        self._path = path
        self._passages = passages
        self._rows_at = 4 * spec.nlist
        entries = spec.copies * passages
        self._codes_at = self._rows_at + 4 * entries
        self._code_bytes = spec.code_bytes
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise unreadable(path, error) from None
        with ExitStack() as stack:
            stack.enter_context(self._file)
            size = os.fstat(self._file.fileno()).st_size
            wanted = self._codes_at + entries * spec.code_bytes
            if size != wanted:
                raise DataLoss(
                    f"{path} has {size} bytes; {entries} codes of {spec.code_bytes} bytes in {spec.nlist} lists "
                    f"need {wanted}",
                    mend=MEND,
                )
            self.lengths = np.empty(spec.nlist, "<u4")
            self._fill(self.lengths, 0)
            if (total := int(self.lengths.sum(dtype=np.int64))) != entries:
                raise DataLoss(f"{path} has lists of {total} codes together; wanted {entries}", mend=MEND)
            stack.pop_all()

    def read_into(self, skipped: int, rows: NDArray[np.uint32], codes: NDArray[np.uint8]) -> None:
        """The entries after the first `skipped`, as many as `rows` and `codes` have room for."""
        self._fill(rows, self._rows_at + rows.itemsize * skipped)
        self._fill(codes, self._codes_at + self._code_bytes * skipped)
        if (highest := int(rows.max())) >= self._passages:
            raise DataLoss(f"{self._path} has a row {highest}; wanted rows below {self._passages}", mend=MEND)

    def _fill(self, array: NDArray[Any], offset: int) -> None:
        left = array.reshape(-1).view(np.uint8).data
        while left:
            try:
                count = os.preadv(self._file.fileno(), [left], offset)
            except OSError as error:
                raise unreadable(self._path, error) from None
            if not count:
                raise DataLoss(f"{self._path} ends at byte {offset}; it was longer when opened", mend=MEND)
            left, offset = left[count:], offset + count

    def __enter__(self) -> _ListFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _cuts(sizes: NDArray[np.int64]) -> list[int]:
    """From 0 to the number of lists, between which lists are few enough to be held at once."""
    ends = np.cumsum(sizes)
    cuts = [0]
    while cuts[-1] < len(sizes):
        before = int(ends[cuts[-1] - 1]) if cuts[-1] else 0
        cuts.append(max(cuts[-1] + 1, int(np.searchsorted(ends, before + _ENTRIES_AT_ONCE, "right"))))
    return cuts
