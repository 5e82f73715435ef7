"""Exact inner products with stored vectors, for the candidates of a batch of queries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datastore.store.block_sums import BLOCK_ROWS, BLOCK_ROWS_LOG2
from datastore.store.joined_rows import JoinedRows
from datastore.store.vectors import LOOKED_AT, VectorFile, inner_products, widened

_ROWS_AT_ONCE = 4096
"""Of a batch of queries together: their vectors should stay in the cache between reading and scoring."""

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]


class ExactVectors:
    """The vectors of some segments, by rows that count on from segment to segment; thread-safe."""

    def __init__(self, files: Sequence[VectorFile], dimension: int) -> None:
        self._files = files
        self._dimension = dimension
        self._bases = np.cumsum([0, *(file.rows for file in files)])
        some = len(files) > 1 and self._bases[-1] > 0
        self._joined = JoinedRows([file.matrix for file in files]) if some else None
        blocks = [-(-file.rows // BLOCK_ROWS) for file in files]
        self._block_bases = np.cumsum([0, *blocks])
        # Of all files together, so that a batch asks once: the blocks that need not be compared, or not again.
        self._right = np.repeat([file.sums is None for file in files], blocks)

    def read(self, rows: Rows) -> NDArray[np.float32]:
        """float32 [len(rows), dimension] of ascending rows; all are asked of the disk before one is waited for."""
        return widened(self._stored(rows))

    def _stored(self, rows: Rows) -> NDArray[np.float16]:
        if self._joined is None:
            stored = np.empty((len(rows), self._dimension), np.float16)
            for file in self._files:
                file.prefetch(rows)
                file.read_into(rows, stored)
            return stored
        files = np.searchsorted(self._bases, rows, "right") - 1
        own = rows - self._bases[files]
        looked_at = slice(None, None, -(-len(rows) // LOOKED_AT) or 1)
        if not all(
            self._files[file].in_memory(own[at : at + 1])
            for at, file in zip(range(len(rows))[looked_at], files[looked_at].tolist(), strict=True)
        ):
            bounds = np.searchsorted(rows, self._bases)
            for file, start, end in zip(self._files, bounds, bounds[1:], strict=False):
                if start < end:
                    file.prefetch(own[start:end])
        blocks = self._block_bases[files] + (own >> BLOCK_ROWS_LOG2)
        if not self._right[blocks].all():
            for file in np.unique(files).tolist():
                self._files[file].check(own[files == file])
            self._right[blocks] = True
        return self._joined.take(files, own)

    def scores(self, queries: NDArray[np.float32], rows: Sequence[Rows]) -> list[Scores]:
        """Inner products of query i, of float32 [n, dimension], with its ascending rows[i].

        A row that several of a few queries have is read once.
        """
        scores: list[Scores] = []
        while len(scores) < len(rows):
            start, end, count = len(scores), len(scores) + 1, len(rows[len(scores)])
            while end < len(rows) and count + len(rows[end]) <= _ROWS_AT_ONCE:
                count += len(rows[end])
                end += 1
            scores += self._scores_together(queries[start:end], rows[start:end])
        return scores

    def _scores_together(self, queries: NDArray[np.float32], rows: Sequence[Rows]) -> list[Scores]:
        if len(rows) == 1:
            return [inner_products(self.read(rows[0]), queries[0])]
        distinct, places = np.unique(np.concatenate(rows), return_inverse=True)
        vectors = widened(self._stored(distinct)[places])
        bounds = np.cumsum([0, *map(len, rows)]).tolist()
        return [
            inner_products(vectors[start:end], query)
            for query, start, end in zip(queries, bounds, bounds[1:], strict=False)
        ]
