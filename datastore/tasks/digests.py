"""Which documents have an id that came before, out of core: sorted runs of digests on disk, merged piece by piece.

Of each document that a scan admits there is a record of 24 bytes: the digest of its id and its ordinal in the task. A
scan writes them in runs of at most 262,144, each sorted by digest. Documents with one id then lie in the same range
of digests of all runs: one range at a time is read and sorted, so memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

_RECORD = np.dtype([("high", ">u8"), ("low", ">u8"), ("ordinal", "<u8")])
_RUN_RECORDS = 1 << 18
_RANGE_RECORDS = 1 << 18
"""Of a range, on average: some 30 MB are held while it is sorted."""


class DigestWriter:
    """Writes one task's digests in the order of the documents; memory is one run, some 20 MB at most."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb")
        self._digests = bytearray()
        self._ordinals: list[int] = []
        self.runs: list[int] = []
        """Records in each run that has been written."""

    def add(self, digest: bytes, ordinal: int) -> None:
        self._digests += digest
        self._ordinals.append(ordinal)
        if len(self._ordinals) == _RUN_RECORDS:
            self._end_run()

    def _end_run(self) -> None:
        if not self._ordinals:
            return
        halves = np.frombuffer(bytes(self._digests), ">u8").reshape(-1, 2)
        run = np.empty(len(halves), _RECORD)
        run["high"], run["low"], run["ordinal"] = halves[:, 0], halves[:, 1], self._ordinals
        order = np.lexsort((run["ordinal"], run["low"], run["high"]))
        self._file.write(run[order].tobytes())
        self.runs.append(len(run))
        self._digests.clear()
        self._ordinals.clear()

    def close(self) -> None:
        """Write the last run."""
        self._end_run()
        self._file.close()

    def abort(self) -> None:
        self._file.close()


class Digests(NamedTuple):
    """The file of one task, and the records of each of its runs."""

    path: Path
    runs: Sequence[int]


class Duplicates(NamedTuple):
    """Documents of some tasks whose ids came before."""

    tasks: NDArray[np.int64]
    ordinals: NDArray[np.int64]


def find_duplicates(files: Sequence[Digests], range_records: int = _RANGE_RECORDS) -> Iterator[Duplicates]:
    """All but the first of each id: the first is in the earliest task of `files`, and there has the lowest ordinal.

    In batches, in no order.
    """
    runs = [
        (task, _Run(file.path, start, records))
        for task, file in enumerate(files)
        for start, records in zip(np.cumsum([0, *file.runs]).tolist(), file.runs, strict=False)
    ]
    ranges = -(-sum(run.records for _, run in runs) // range_records)
    starts = [0] * len(runs)
    for step in range(1, ranges + 1):
        limit = (step << 64) // ranges
        parts, tasks = [], []
        for number, (task, run) in enumerate(runs):
            mapped = run.map()
            end = len(mapped) if limit >= 1 << 64 else _first_at(mapped, limit)
            parts.append(np.array(mapped[starts[number] : end]))
            tasks.append(np.full(end - starts[number], task, np.int64))
            starts[number] = end
        found = _repeated(np.concatenate(parts), np.concatenate(tasks))
        if len(found.tasks):
            yield found


class _Run(NamedTuple):
    """Where one lies. It is mapped only while it is read: there may be more of them than files may be open."""

    path: Path
    start: int
    records: int

    def map(self) -> NDArray[np.void]:
        offset = self.start * _RECORD.itemsize
        return np.memmap(self.path, _RECORD, "r", offset=offset, shape=(self.records,))


def _first_at(run: NDArray[np.void], limit: int) -> int:
    """Where the digests of a sorted run reach `limit`, a value of their first half."""
    low, high = 0, len(run)
    while low < high:
        middle = (low + high) // 2
        if int(run[middle]["high"]) < limit:
            low = middle + 1
        else:
            high = middle
    return low


def _repeated(records: NDArray[np.void], tasks: NDArray[np.int64]) -> Duplicates:
    high, low = records["high"].astype(np.uint64), records["low"].astype(np.uint64)
    ordinals = records["ordinal"].astype(np.int64)
    order = np.lexsort((ordinals, tasks, low, high))
    high, low = high[order], low[order]
    again = np.flatnonzero((high[1:] == high[:-1]) & (low[1:] == low[:-1])) + 1
    return Duplicates(tasks[order[again]], ordinals[order[again]])
