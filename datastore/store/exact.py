"""Exact inner products with stored vectors, for the candidates of a batch of queries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datastore.store.vectors import VectorFile, inner_products, widened

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]


class ExactVectors:
    """The vectors of some segments, by rows that count on from segment to segment; thread-safe."""

    def __init__(self, files: Sequence[VectorFile], dimension: int) -> None:
        self._files = files
        self._dimension = dimension
        self._bases = np.cumsum([0, *(file.rows for file in files)])

    def read(self, rows: Rows) -> NDArray[np.float32]:
        """float32 [len(rows), dimension] of ascending rows; all are asked of the disk before one is waited for."""
        stored = np.empty((len(rows), self._dimension), np.float16)
        bounds = np.searchsorted(rows, self._bases)
        parts = [
            (file, rows[start:end] - base, stored[start:end])
            for file, base, start, end in zip(self._files, self._bases, bounds, bounds[1:], strict=False)
            if start < end
        ]
        for file, own, _ in parts:
            file.prefetch(own)
        for file, own, out in parts:
            file.read_into(own, out)
        return widened(stored)

    def scores(self, queries: NDArray[np.float32], rows: Sequence[Rows]) -> list[Scores]:
        """Inner products of query i, of float32 [n, dimension], with its ascending rows[i]; a row of several queries is
        read once."""
        distinct = rows[0] if len(rows) == 1 else np.unique(np.concatenate(rows))
        vectors = self.read(distinct)
        return [
            inner_products(vectors if len(rows) == 1 else vectors[np.searchsorted(distinct, mine)], query)
            for mine, query in zip(rows, queries, strict=True)
        ]
