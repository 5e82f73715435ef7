"""The file of a segment's codes, list by list: what the kinds with lists in memory share (docs/FORMAT.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

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
