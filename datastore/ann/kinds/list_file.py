"""The file of a segment's codes, list by list: what the kinds with lists in memory share (docs/FORMAT.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from datastore.ann.clustering import CoarseLevel, assign
from datastore.ann.spec import IndexSpec

if TYPE_CHECKING:
    from datastore.ann.kinds.joined_lists import JoinedLists


@dataclass(frozen=True, slots=True)
class Entries:
    """Codes of passages, one for each copy: aligned arrays."""

    lists: NDArray[np.int64]
    rows: NDArray[np.int64]
    codes: NDArray[np.uint8]
    """[entries, code_bytes]."""

    def write(self, path: Path, spec: IndexSpec) -> None:
        """List by list, each by row: lengths of the lists, rows, codes."""
        order = np.lexsort((self.rows, self.lists))
        with path.open("wb") as file:
            file.write(np.bincount(self.lists, minlength=spec.nlist).astype("<u4").tobytes())
            file.write(self.rows[order].astype("<u4").tobytes())
            file.write(self.codes[order].tobytes())


def encoded(
    blocks: Iterable[NDArray[np.float32]],
    assigner: CoarseLevel,
    spec: IndexSpec,
    encode: Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.uint8]],
) -> Entries:
    """The codes of vectors, row after row through the blocks, in the lists that `assigner` puts them into.

    Args:
        encode: of float32 [n, dimension] and the list of each, to uint8 [n, code_bytes].
    """
    lists, rows = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    codes = [np.empty((0, spec.code_bytes), np.uint8)]
    start = 0
    for vectors in blocks:
        for own in np.ascontiguousarray(assign(assigner, vectors, spec.copies, spec.spill_weight).T):
            codes.append(encode(vectors, own))
            lists.append(own)
            rows.append(np.arange(start, start + len(vectors)))
        start += len(vectors)
    return Entries(np.concatenate(lists), np.concatenate(rows), np.concatenate(codes))


def renumbered(joined: JoinedLists, rows: NDArray[np.int64]) -> Entries:
    """The codes of some segments under new rows: `rows` has one for each, -1 for what is left out."""
    lists, kept, codes = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [joined.no_codes]
    for part in joined.ranges():
        new = rows[part.rows]
        left = np.flatnonzero(new >= 0)
        numbers = part.first + np.repeat(np.arange(len(part.bounds) - 1), np.diff(part.bounds))
        lists.append(numbers[left])
        kept.append(new[left])
        codes.append(part.codes[left])
    return Entries(np.concatenate(lists), np.concatenate(kept), np.concatenate(codes))
