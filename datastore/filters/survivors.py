"""Which passages of a segment a filter leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_BITS = 8


@dataclass(frozen=True, eq=False)
class Survivors:
    """The rows of one segment that survive; immutable, thread-safe.

    Args:
        passages: rows of the segment.
        bitmap: uint8 [ceil(passages / 8)]; bit `i % 8`, from the lowest, of byte `i // 8` is row `i`. Bits beyond the
            last row are 0.
    """

    passages: int
    bitmap: NDArray[np.uint8]
    count: int = field(init=False)
    """Rows that survive."""
    _rows: list[NDArray[np.int64]] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", int(np.bitwise_count(self.bitmap).sum(dtype=np.int64)))
        self.bitmap.flags.writeable = False

    @property
    def rows(self) -> NDArray[np.int64]:
        """The rows, ascending, int64 [count]. Kept if it is no larger than the bitmap, else made at every call."""
        if self._rows:
            return self._rows[0]
        used = np.flatnonzero(self.bitmap)
        bits = np.unpackbits(self.bitmap[used], bitorder="little").reshape(-1, _BITS)
        byte, bit = np.nonzero(bits)
        rows: NDArray[np.int64] = used[byte] * _BITS + bit
        rows.flags.writeable = False
        if rows.nbytes <= self.bitmap.nbytes:
            self._rows.append(rows)
        return rows

    @property
    def nbytes(self) -> int:
        """Memory that it takes at most."""
        return 2 * self.bitmap.nbytes

    def __contains__(self, row: int) -> bool:
        return bool(self.bitmap[row // _BITS] >> row % _BITS & 1)

    def __and__(self, other: Survivors) -> Survivors:
        """Of the same segment."""
        return Survivors(self.passages, self.bitmap & other.bitmap)


def all_rows(passages: int) -> Survivors:
    """Of a segment from which nothing is left out."""
    return Survivors(passages, np.packbits(np.ones(passages, bool), bitorder="little"))


def joined(parts: Sequence[Survivors]) -> Survivors:
    """Of some segments as one, rows counting on from segment to segment."""
    if len(parts) == 1:
        return parts[0]
    bits = [np.unpackbits(part.bitmap, count=part.passages, bitorder="little") for part in parts]
    rows = sum(part.passages for part in parts)
    return Survivors(rows, np.packbits(np.concatenate([np.empty(0, np.uint8), *bits]), bitorder="little"))
