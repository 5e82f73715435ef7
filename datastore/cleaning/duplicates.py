"""Which documents are duplicates of an earlier one, over the signatures of all tasks.

Documents are numbered in the order of the input. Of documents with the same text the first stays. Documents that share
a band are compared, similar ones are joined, and of each set of documents that are joined, directly or by way of
others, the first stays. So the outcome depends on the input alone.

Keys lie sorted on disk, task by task; ranges of them are merged in memory, a few million at a time. The joined sets are
a forest over the documents, in a file: 8 bytes a document, and one for its state.

Documents that are there already, those of the datastore that is added to, stay whatever comes. They have numbers below
0, so that they come first, and are looked up by their keys, not read through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from datastore.cleaning.minhash import Shingles, choose_bands, jaccard
from datastore.cleaning.settings import DuplicateSettings
from datastore.cleaning.signatures import Signatures, Sketches
from datastore.sources.rejects import RefusedError

_MERGED_ROWS = 1 << 22
"""Keys in memory at once, about."""
_COMPARED = 100
"""Earlier documents under the same key that a document is compared with at most: a bound for boilerplate."""
_REMEMBERED = 1 << 20
_OPEN_TASKS = 64
"""Whose files are mapped at once: a process may have a thousand open."""

_STAYS, _OUT, _EXACT = 0, 1, 2
Numbers = NDArray[np.int64]


class Earlier(Protocol):
    """Documents that stay. Each has a number below 0, the lower the earlier it comes."""

    def same_text(self, high: NDArray[np.uint64], low: NDArray[np.uint64]) -> Numbers:
        """The first with each of these digests, by their halves; 0 for none."""
        ...

    def same_band(self, band: int, keys: NDArray[np.uint64]) -> Iterator[tuple[int, Numbers]]:
        """(position in `keys`, those with that key of the band), ascending; positions may come more than once."""
        ...

    def sketch(self, number: int) -> Shingles: ...

    def document_id(self, number: int) -> str: ...


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A document to leave out, and an earlier one like it."""

    row: int
    exact: bool
    earlier_id: str
    """The first with the same text, which may be a near-duplicate itself; of near-duplicates the one that stays."""
    jaccard: float
    """With that one: 1 for the same text, less than the limit if they are joined by way of others."""
    stored: bool = False
    """Whether that one is not of this input, but was there before."""

    def refusal(self) -> RefusedError:
        """What rejects say of it."""
        like = f"the document {self.earlier_id!r}, which {'the datastore has' if self.stored else 'came before'}"
        if self.exact:
            return RefusedError("exact duplicate", f"the text of {like}")
        return RefusedError("near duplicate", f"Jaccard {self.jaccard:.2f} with {like}")


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
    earlier: Earlier | None = None,
) -> Iterator[Duplicates]:
    """For each task, in order: what to leave out. Each is good until the next is taken.

    Args:
        folders: of the tasks' signatures, in the order of the input.
        work: a folder for files as large as 9 bytes a document; they are removed at the end.
        excluded: bool[rows] for each task: documents that are left out for other reasons, so that none stays for them.
        earlier: what is there already.
    """
    work.mkdir(parents=True, exist_ok=True)
    search = _Search(folders, settings, work, earlier)
    try:
        for task, rows in enumerate(excluded):
            search.state[search.starts[task] : search.starts[task + 1]][rows] = _OUT
        if settings.exact and search.total:
            search.join_exact_earlier()
            search.join_exact()
        if settings.near and search.total:
            search.join_near_earlier()
            search.join_near()
        for task in range(len(folders)):
            yield Duplicates(search.left_out(task), partial(search.duplicate, task))
    finally:
        search.close()


_Run = tuple[NDArray[np.uint64], NDArray[np.uint32], NDArray[np.uint64] | None]
"""Of one task: keys, ascending, the rows that they are of, and second keys."""


class _Range(NamedTuple):
    """Documents, by number, with the keys of one range."""

    keys: NDArray[np.uint64]
    numbers: Numbers
    seconds: NDArray[np.uint64]


class _Search:
    def __init__(
        self, folders: Sequence[Path], settings: DuplicateSettings, work: Path, earlier: Earlier | None
    ) -> None:
        self._settings = settings
        self._earlier = earlier
        self._tasks = lru_cache(_OPEN_TASKS)(lambda task: Signatures(folders[task]))
        self._sketches = lru_cache(_OPEN_TASKS)(lambda task: Sketches(folders[task]))
        self._bands = choose_bands(settings.min_jaccard, settings.permutations)
        self.starts = np.cumsum([0, *(self._tasks(task).count for task in range(len(folders)))])
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

    def join_exact_earlier(self) -> None:
        """Point each document with the text of one that is there already to that."""
        if self._earlier is None:
            return
        for keys, numbers, lows in self._runs_to_look_up(self._digest_run):
            found = self._earlier.same_text(keys, lows)
            self._parents[numbers[found < 0]] = found[found < 0]
            self.state[numbers[found < 0]] = _EXACT

    def join_near_earlier(self) -> None:
        """Join documents to similar ones that are there already, each to one."""
        if self._earlier is None:
            return
        for band in range(self._bands.count):
            compared: Counter[int] = Counter()
            for keys, numbers, _ in self._runs_to_look_up(self._band_run(band)):
                for place, candidates in self._earlier.same_band(band, keys):
                    number = int(numbers[place])
                    for candidate in candidates.tolist():
                        if self._root(number) < 0 or compared[number] == _COMPARED:
                            break
                        if self._similar(candidate, number):
                            self._parents[self._root(number)] = candidate
                        compared[number] += 1

    def join_exact(self) -> None:
        """Point each document with the text of an earlier one to the first of them."""
        for unsorted in self._merged(self._digest_run):
            order = np.lexsort((unsorted.numbers, unsorted.seconds, unsorted.keys))
            high, numbers, low = (values[order] for values in unsorted)
            first = np.ones(len(numbers), bool)
            first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
            leaders = numbers[np.flatnonzero(first)[np.cumsum(first) - 1]]
            self._parents[numbers[~first]] = leaders[~first]
            self.state[numbers[~first]] = _EXACT

    def join_near(self) -> None:
        """Join documents that share a band and are similar."""
        for band in range(self._bands.count):
            for unsorted in self._merged(self._band_run(band)):
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
        if kept < 0 and self._earlier:
            return Duplicate(row, exact, self._earlier.document_id(kept), similarity, stored=True)
        kept_task, kept_row = self._place(kept)
        return Duplicate(row, exact, self._tasks(kept_task).document_id(kept_row), similarity)

    def _digest_run(self, task: int) -> _Run:
        digests, rows = self._tasks(task).digests()
        return digests[:, 0], rows, digests[:, 1]

    def _band_run(self, band: int) -> Callable[[int], _Run]:
        return lambda task: (*self._tasks(task).band(band), None)

    def _runs_to_look_up(self, run_of: Callable[[int], _Run]) -> Iterator[_Range]:
        """Some keys at a time, ascending, of documents that are joined to nothing yet; not those without words."""
        for task, first in enumerate(self.starts[:-1].tolist()):
            keys, rows, seconds = run_of(task)
            for start in range(0, len(keys), _MERGED_ROWS):
                some = slice(start, start + _MERGED_ROWS)
                numbers = rows[some].astype(np.int64) + first
                free = (self.state[numbers] == _STAYS) & (self._parents[numbers] >= 0)
                free &= (seconds is not None) | (keys[some] != 0)  # 0 is the key of texts without words
                second = keys if seconds is None else seconds
                yield _Range(np.asarray(keys[some])[free], numbers[free], np.asarray(second[some])[free])

    def _merged(self, run_of: Callable[[int], _Run]) -> Iterator[_Range]:
        """Ranges of the sorted runs of all tasks, of documents that are still in."""
        parts = max(-(-self.total // _MERGED_ROWS), 1)
        bounds = np.array([i * (1 << 64) // parts for i in range(1, parts)], np.uint64)
        cuts = []
        for task in range(len(self.starts) - 1):
            keys = run_of(task)[0]
            cuts.append([0, *np.searchsorted(keys, bounds).tolist(), len(keys)])
        for part in range(parts):
            pieces = []
            for task, cut in enumerate(cuts):
                keys, rows, seconds = run_of(task)
                piece = slice(cut[part], cut[part + 1])
                own = np.array(keys[piece])  # copies, that hold no file open
                numbers = rows[piece].astype(np.int64) + self.starts[task]
                pieces.append(_Range(own, numbers, own if seconds is None else np.array(seconds[piece])))
            joined = _Range(*(np.concatenate(values) for values in zip(*pieces, strict=True)))
            stays = np.asarray(self.state[joined.numbers] == _STAYS)
            yield _Range(*(values[stays] for values in joined))

    def _join(self, numbers: list[int]) -> None:
        for i, number in enumerate(numbers[1:], 1):
            compared = 0
            for earlier in numbers[:i]:
                one, other = self._root(earlier), self._root(number)
                if one == other or max(one, other) < 0:  # two that are there already both stay
                    continue
                if self._similar(earlier, number):
                    self._parents[max(one, other)] = min(one, other)
                compared += 1
                if compared == _COMPARED:
                    break

    def _root(self, number: int) -> int:
        parents = self._parents
        while number >= 0 and (parent := int(parents[number])) != number:
            if parent >= 0:
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
        return jaccard(self._sketch(one), self._sketch(other))

    def _sketch(self, number: int) -> Shingles:
        if number < 0 and self._earlier:
            return self._earlier.sketch(number)
        task, row = self._place(number)
        return self._sketches(task)[row]

    def _place(self, number: int) -> tuple[int, int]:
        task = int(np.searchsorted(self.starts, number, side="right")) - 1
        return task, number - int(self.starts[task])
