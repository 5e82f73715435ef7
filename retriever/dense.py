"""Dense search in one shard: candidates by their codes, then exact inner products with the stored vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from datastore.ann.index import candidates
from datastore.store.reader import StoreReader

Rows = NDArray[np.int64]

DEFAULT_CANDIDATE_DEPTH = 100
"""Candidates reranked exactly when a request does not say."""

_MARGIN = 32
"""Candidates beyond k at least: codes order near-ties otherwise than the exact scores do."""

_SCAN_ERROR = 1e-4
"""How far a flat scan's float32 score may lie from the exact one, relative to the lengths of query and passage vectors:
with a wide margin."""

_SCANNED_SURVIVORS = 4096
"""Up to so many passages that a filter leaves are all scored exactly: codes and probing would not be faster."""


@dataclass(frozen=True)
class Accepted:
    """The passages of a shard that a filter leaves."""

    bitmap: NDArray[np.uint8]
    """Bit `r % 8` of byte `r // 8` is row r; rows count on from segment to segment."""
    count: int

    @cached_property
    def rows(self) -> Rows:
        """Ascending, int64 [count]; only asked for where they are few."""
        return np.flatnonzero(np.unpackbits(self.bitmap, bitorder="little"))


@dataclass(frozen=True, slots=True)
class Found:
    """Passages with their exact scores: aligned arrays [found], in no order."""

    rows: Rows
    scores: NDArray[np.float32]


class DenseSearch:
    """Searches the open segments of a store; thread-safe."""

    def __init__(self, reader: StoreReader) -> None:
        self._index = reader.ann
        self._exact = reader.template.exact
        self._vectors = reader.vectors
        self._unit = reader.manifest.encoder.normalized
        self._spec = reader.manifest.index
        self._passages = sum(segment.vectors.rows for segment in reader.segments)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        candidate_depth: int | None = None,
        nprobe: int | None = None,
        accepted: Accepted | None = None,
    ) -> list[Found]:
        """For each of float32 [n, dimension], finite, its best passages with exact scores, among them the best k found.

        All queries share the reading of lists and vectors, and the filter.
        """
        total = self._passages if accepted is None else accepted.count
        if total == 0 or len(queries) == 0:
            nothing = Found(np.empty(0, np.int64), np.empty(0, np.float32))
            return [nothing] * len(queries)
        depth = min(max(k + _MARGIN, candidate_depth or DEFAULT_CANDIDATE_DEPTH), total)
        if accepted is not None and accepted.count <= max(_SCANNED_SURVIVORS, depth):
            return self._scored(queries, [accepted.rows] * len(queries))
        probes = self._probes(nprobe or self._spec.default_nprobe, total)
        bitmap = None if accepted is None else accepted.bitmap
        found = self._scored(queries, candidates(self._index, queries, depth, probes, bitmap))
        if self._exact:
            for position, first in enumerate(found):
                found[position] = self._deepened(queries[position : position + 1], first, k, total, bitmap)
        return found

    def _probes(self, nprobe: int, total: int) -> int:
        """More lists the fewer passages a filter leaves, as each list holds fewer of them."""
        return min(self._spec.nlist, round(nprobe * (self._passages / total) ** 0.5)) if self._spec.nlist else 0

    def _scored(self, queries: NDArray[np.float32], rows: Sequence[Rows]) -> list[Found]:
        return [Found(mine, scores) for mine, scores in zip(rows, self._vectors.scores(queries, rows), strict=True)]

    def _deepened(
        self, query: NDArray[np.float32], found: Found, k: int, total: int, bitmap: NDArray[np.uint8] | None
    ) -> Found:
        """With a scan of everything, the order is exact if nothing left out could tie with the k-th or pass it."""
        while (depth := len(found.rows)) < total and self._cut_may_tie(query[0], found, k):
            found = self._scored(query, candidates(self._index, query, min(4 * depth, total), 0, bitmap))[0]
        return found

    def _cut_may_tie(self, query: NDArray[np.float32], found: Found, k: int) -> bool:
        """Whether the worst candidate's score is so near the k-th that one left out could belong before it."""
        if len(found.scores) <= k:
            return True
        kth = np.partition(found.scores, -k)[-k]
        longest = 1.0 if self._unit else float(np.linalg.norm(self._vectors.read(found.rows), axis=1).max())
        error = _SCAN_ERROR * longest * float(np.linalg.norm(query))
        return bool(kth - found.scores.min() <= error)
