"""What an open index takes of memory, by arithmetic, and the best one that fits a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from datastore.quantities import human_bytes

if TYPE_CHECKING:
    from datastore.ann.spec import IndexSpec

_FLOAT = 4
_ROW = 8
"""Of a code in a list: the row that it is of."""
_FILLED_UP = 15.5
"""Entries that a list is longer than its codes, on average: it is laid out in blocks of 32."""
_BYTE_CENTROIDS = 256


def index_bytes(spec: IndexSpec, passages: int) -> int:
    """Of an index over so many passages, on a CPU, without the program around it and what searches take for a moment.

    Codes of ivf-pq are mapped from disk, so that their part is page cache, which the system may take back.
    """
    if spec.kind == "flat":
        return 2 * spec.dimension * passages
    coarse = _FLOAT * spec.dimension * spec.nlist
    if spec.kind == "ivf-pq":
        return coarse + _FLOAT * _BYTE_CENTROIDS * spec.dimension + (spec.pq_m + _ROW) * passages
    rotation = 2 * _FLOAT * spec.dimension * (2 * spec.pq_m or spec.rotated_dimension)
    entries = round(spec.copies * passages + _FILLED_UP * spec.nlist)
    return coarse + spec.dimension // 4 * spec.nlist + rotation + entries * (spec.code_bytes + _ROW)


def within_memory(ladder: Sequence[IndexSpec], passages: int, memory: int | None) -> IndexSpec:
    """The first of `ladder`, best first, that fits; its `reason` says what did not.

    Where nothing fits, that is the one that takes least, and its `reason` says so: when the passages are counted they
    have been encoded, and hours of work are not thrown away for a search that may be slow.
    """
    best = ladder[0]
    if memory is None:
        return best
    limit = f"index.memory, {human_bytes(memory)}"
    for spec in ladder:
        need = index_bytes(spec, passages)
        if need <= memory and spec is best:
            return replace(spec, reason=f"{spec.reason}; {human_bytes(need)} in memory, within {limit}")
        if need <= memory:
            above = f"{best.describe()} takes {human_bytes(index_bytes(best, passages))}, more than {limit}"
            return replace(spec, reason=f"{spec.reason}; {above}; this takes {human_bytes(need)}")
    least = min(ladder, key=lambda spec: index_bytes(spec, passages))
    above = f"takes {human_bytes(index_bytes(least, passages))}, more than {limit}"
    return replace(least, reason=f"{least.reason}; {above}" + ("" if len(ladder) == 1 else "; nothing takes less"))
