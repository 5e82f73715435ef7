"""Dense search in one shard: candidates by their codes, then exact inner products with the stored vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datastore.ann.index import Cover, candidates
from datastore.store.reader import StoreReader
from datastore.store.vectors import inner_products
from retriever.filtered import Accepted, SurvivorsSearch

Rows = NDArray[np.int64]

DEFAULT_CANDIDATE_DEPTH = 100
"""Candidates reranked exactly when a request does not say."""

_MARGIN = 32
"""Candidates beyond k at least: codes order near-ties otherwise than the exact scores do."""

_SCAN_ERROR = 1e-4
"""How far a flat scan's float32 score may lie from the exact one, relative to the lengths of query and passage vectors:
with a wide margin."""


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
        self._live = reader.live
        self._passages = reader.live_passages
        self._survivors = SurvivorsSearch(self._index, self._vectors, self._spec, self._passages)

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
        probes = nprobe or self._spec.default_nprobe
        accept: NDArray[np.uint8] | Cover | None = None
        if accepted is None and self._live is not None:
            if total <= depth:
                return self._scored(queries, [self._live.rows] * len(queries))
            accept = self._live.bitmap  # as many lists as without deletions: those are the same
        if accepted is not None:
            if (rows := self._survivors.candidates(queries, depth, probes, accepted)) is not None:
                return self._scored(queries, rows)
            probes, accept = self._survivors.probes(probes, accepted)
        found = self._scored(queries, candidates(self._index, queries, depth, probes, accept))
        if self._exact:
            for position, first in enumerate(found):
                found[position] = self._deepened(queries[position : position + 1], first, k, total, accept)
        return found

    def _scored(self, queries: NDArray[np.float32], rows: Sequence[Rows]) -> list[Found]:
        if len(rows) > 1 and all(mine is rows[0] for mine in rows):  # all that a filter leaves: read once
            vectors = self._vectors.read(rows[0])
            return [Found(rows[0], inner_products(vectors, query)) for query in queries]
        return [Found(mine, scores) for mine, scores in zip(rows, self._vectors.scores(queries, rows), strict=True)]

    def _deepened(
        self, query: NDArray[np.float32], found: Found, k: int, total: int, accept: NDArray[np.uint8] | Cover | None
    ) -> Found:
        """With a scan of everything, the order is exact if nothing left out could tie with the k-th or pass it."""
        while (depth := len(found.rows)) < total and self._cut_may_tie(query[0], found, k):
            found = self._scored(query, candidates(self._index, query, min(4 * depth, total), 0, accept))[0]
        return found

    def _cut_may_tie(self, query: NDArray[np.float32], found: Found, k: int) -> bool:
        """Whether the worst candidate's score is so near the k-th that one left out could belong before it."""
        if len(found.scores) <= k:
            return True
        kth = np.partition(found.scores, -k)[-k]
        longest = 1.0 if self._unit else float(np.linalg.norm(self._vectors.read(found.rows), axis=1).max())
        error = _SCAN_ERROR * longest * float(np.linalg.norm(query))
        return bool(kth - found.scores.min() <= error)
