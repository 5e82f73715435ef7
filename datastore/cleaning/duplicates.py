"""Which documents are duplicates of an earlier one, over the signatures of all tasks.

Documents are numbered in the order of the input. Of documents with the same text the first stays. Documents that share
a band are compared, similar ones are joined, and of each set of documents that are joined, directly or by way of
others, the first stays. So the outcome depends on the input alone.

Keys lie sorted on disk, task by task; ranges of them are merged in memory, a few million at a time. The joined sets are
a forest over the documents, in a file: 8 bytes a document, and one for its state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datastore.cleaning.minhash import choose_bands, jaccard
from datastore.cleaning.settings import DuplicateSettings
from datastore.cleaning.signatures import DocumentIds, Signatures, Sketches
from datastore.sources.rejects import RefusedError

_MERGED_ROWS = 1 << 22
"""Keys in memory at once, about."""
_COMPARED = 100
"""Earlier documents under the same key that a document is compared with at most: a bound for boilerplate."""
_REMEMBERED = 1 << 20
_OPEN_TASKS = 32
"""Tasks whose ids, and whose sketches, are mapped at once."""

_STAYS, _OUT, _EXACT = 0, 1, 2
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A document to leave out, and an earlier one like it."""

    row: int
    exact: bool
    earlier_id: str
    """The first with the same text, which may be a near-duplicate itself; of near-duplicates the one that stays."""
    jaccard: float
    """With that one: 1 for the same text, less than the limit if they are joined by way of others."""

    def refusal(self) -> RefusedError:
        """What rejects say of it."""
        if self.exact:
            return RefusedError("exact duplicate", f"the text of the document {self.earlier_id!r}, which came before")
        detail = f"Jaccard {self.jaccard:.2f} with the document {self.earlier_id!r}, which came before"
        return RefusedError("near duplicate", detail)


class Duplicates(NamedTuple):
    """Of one task."""

    rows: Numbers
    """Ascending."""
    duplicate: Callable[[int], Duplicate]
    """What is to be said of one of them."""


def find_duplicate_texts(
    folders: Sequence[Path],
    settings: DuplicateSettings,
    work: Path,
    excluded: Iterable[NDArray[np.bool_]] = (),
) -> Iterator[Duplicates]:
    """For each task, in order: what to leave out. Each is good until the next is taken.

    Args:
        folders: of the tasks' signatures, in the order of the input.
        work: a folder for files as large as 9 bytes a document; they are removed at the end.
        excluded: bool[rows] for each task: documents that are left out for other reasons, so that none stays for them.
    """
    work.mkdir(parents=True, exist_ok=True)
    search = _Search(folders, settings, work)
    try:
        for task, rows in enumerate(excluded):
            search.state[search.starts[task] : search.starts[task + 1]][rows] = _OUT
        if settings.exact and search.total:
            search.join_exact()
        if settings.near and search.total:
            search.join_near()
        for task in range(len(folders)):
            yield Duplicates(search.left_out(task), partial(search.duplicate, task))
    finally:
        search.close()


_Run = tuple[NDArray[np.uint64], NDArray[np.uint32], NDArray[np.uint64]]
"""Of one task: keys, ascending, the rows that they are of, and second keys."""
_Runs = Sequence[Callable[[], _Run]]
"""Of all tasks, mapped only while they are used: there may be more of them than files may be open."""


class _Range(NamedTuple):
    """Documents, by number, with the keys of one range."""

    keys: NDArray[np.uint64]
    numbers: Numbers
    seconds: NDArray[np.uint64]


class _Search:
    def __init__(self, folders: Sequence[Path], settings: DuplicateSettings, work: Path) -> None:
        self._settings = settings
        self._tasks = [Signatures(folder) for folder in folders]
        self._sketches = lru_cache(_OPEN_TASKS)(lambda task: Sketches(folders[task]))
        self._ids = lru_cache(_OPEN_TASKS)(lambda task: DocumentIds(folders[task]))
        self.starts = np.cumsum([0, *(task.count for task in self._tasks)])
        self.total = int(self.starts[-1])
        self._files = work / "joined", work / "state"
        size = max(self.total, 1)
        self._parents = np.memmap(self._files[0], np.int64, "w+", shape=(size,))
        self.state = np.memmap(self._files[1], np.uint8, "w+", shape=(size,))
        for start in range(0, self.total, _MERGED_ROWS):
            end = min(start + _MERGED_ROWS, self.total)
            self._parents[start:end] = np.arange(start, end)
        self._dissimilar: set[tuple[int, int]] = set()

    def close(self) -> None:
        del self._parents, self.state
        for path in self._files:
            path.unlink(missing_ok=True)

    def join_exact(self) -> None:
        """Point each document with the text of an earlier one to the first of them."""
        for unsorted in self._merged([partial(_digest_run, task) for task in self._tasks]):
            order = np.lexsort((unsorted.numbers, unsorted.seconds, unsorted.keys))
            high, numbers, low = (values[order] for values in unsorted)
            first = np.ones(len(numbers), bool)
            first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
            leaders = numbers[np.flatnonzero(first)[np.cumsum(first) - 1]]
            self._parents[numbers[~first]] = leaders[~first]
            self.state[numbers[~first]] = _EXACT

    def join_near(self) -> None:
        """Join documents that share a band and are similar."""
        bands = choose_bands(self._settings.min_jaccard, self._settings.permutations)
        for band in range(bands.count):
            for unsorted in self._merged([partial(_band_run, task, band) for task in self._tasks]):
                order = np.lexsort((unsorted.numbers, unsorted.keys))
                keys, numbers = unsorted.keys[order], unsorted.numbers[order]
                edges = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1], [True])))
                for i in np.flatnonzero(np.diff(edges) > 1):
                    if keys[edges[i]]:  # 0 is the key of texts without words
                        self._join(numbers[edges[i] : edges[i + 1]].tolist())

    def left_out(self, task: int) -> Numbers:
        """Rows of one task to leave out, ascending."""
        start, end = int(self.starts[task]), int(self.starts[task + 1])
        state, parents = np.asarray(self.state[start:end]), np.asarray(self._parents[start:end])
        return np.flatnonzero((state != _OUT) & (parents != np.arange(start, end)))

    def duplicate(self, task: int, row: int) -> Duplicate:
        number = int(self.starts[task]) + row
        exact = bool(self.state[number] == _EXACT)
        kept = int(self._parents[number]) if exact else self._root(number)
        similarity = 1.0 if exact else self._jaccard(kept, number)
        kept_task, kept_row = self._place(kept)
        return Duplicate(row, exact, self._ids(kept_task)[kept_row], similarity)

    def _merged(self, runs: _Runs) -> Iterator[_Range]:
        """Ranges of the sorted runs of all tasks, of documents that are still in."""
        parts = max(-(-self.total // _MERGED_ROWS), 1)
        bounds = np.array([i * (1 << 64) // parts for i in range(1, parts)], np.uint64)
        cuts = []
        for run in runs:
            keys, _, _ = run()
            cuts.append([0, *np.searchsorted(keys, bounds).tolist(), len(keys)])
        for part in range(parts):
            pieces = [
                _piece(run(), cut[part], cut[part + 1], start)
                for run, cut, start in zip(runs, cuts, self.starts[:-1].tolist(), strict=True)
            ]
            keys, numbers, seconds = (np.concatenate(values) for values in zip(*pieces, strict=True))
            stays = np.asarray(self.state[numbers] == _STAYS)
            yield _Range(keys[stays], numbers[stays], seconds[stays])

    def _join(self, numbers: list[int]) -> None:
        for i, number in enumerate(numbers[1:], 1):
            compared = 0
            for earlier in numbers[:i]:
                one, other = self._root(earlier), self._root(number)
                if one == other:
                    continue
                if self._similar(earlier, number):
                    self._parents[max(one, other)] = min(one, other)
                compared += 1
                if compared == _COMPARED:
                    break

    def _root(self, number: int) -> int:
        parents = self._parents
        while (parent := int(parents[number])) != number:
            parents[number] = parents[parent]
            number = parent
        return number

    def _similar(self, one: int, other: int) -> bool:
        if (one, other) in self._dissimilar:
            return False
        if self._jaccard(one, other) >= self._settings.min_jaccard:
            return True
        if len(self._dissimilar) >= _REMEMBERED:
            self._dissimilar.clear()
        self._dissimilar.add((one, other))
        return False

    def _jaccard(self, one: int, other: int) -> float:
        (task, row), (other_task, other_row) = self._place(one), self._place(other)
        return jaccard(self._sketches(task)[row], self._sketches(other_task)[other_row])

    def _place(self, number: int) -> tuple[int, int]:
        task = int(np.searchsorted(self.starts, number, side="right")) - 1
        return task, number - int(self.starts[task])


def _digest_run(task: Signatures) -> _Run:
    digests, rows = task.digests()
    return digests[:, 0], rows, digests[:, 1]


def _band_run(task: Signatures, band: int) -> _Run:
    keys, rows = task.band(band)
    return keys, rows, keys


def _piece(run: _Run, start: int, end: int, first: int) -> _Range:
    """A part of a run in memory; `first` is the number of the task's first document."""
    keys, rows, seconds = run
    return _Range(np.array(keys[start:end]), rows[start:end].astype(np.int64) + first, np.array(seconds[start:end]))
