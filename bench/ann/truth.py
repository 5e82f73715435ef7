"""What is right: exact neighbours by inner product, and recall counted from scores, so that ties count as found."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datastore.ann.neighbours import nearest_rows

TIE = 1e-6
"""A result counts if its exact score is at most this much below the k-th exact score: of passages that score the same,
any will do, and sums of the same products in another order differ by about as much."""

_BLOCK = 65_536
_MARGIN = 16


def exact_neighbours(
    base: NDArray[np.float16], queries: NDArray[np.float32], depth: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(ids, scores), each [queries, min(depth, n)], best first: float32 products with the float16 vectors, widened."""
    blocks = (base[start : start + _BLOCK].astype(np.float32) for start in range(0, len(base), _BLOCK))
    best_ids = np.stack(nearest_rows(blocks, queries, min(depth + _MARGIN, len(base))))
    # Once more, in the way in which results are scored; the margin covers what rounding may exchange.
    best_scores = exact_scores(base, queries, best_ids)
    order = np.lexsort((best_ids, -best_scores), axis=1)[:, :depth]
    return np.take_along_axis(best_ids, order, axis=1), np.take_along_axis(best_scores, order, axis=1)


def exact_scores(
    base: NDArray[np.float16], queries: NDArray[np.float32], ids: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Inner product of each query with each of its ids, [queries, k]; minus infinity where an id is -1."""
    scores = np.full(ids.shape, -np.inf, np.float32)
    for row, (query, wanted) in enumerate(zip(queries, ids, strict=True)):
        there = wanted >= 0
        scores[row, there] = np.einsum("ij,j->i", base[wanted[there]].astype(np.float32), query)
    return scores


def recall(scores: NDArray[np.float32], truth_scores: NDArray[np.float32], k: int) -> float:
    """Mean share of the k nearest that was found, from exact scores of distinct results, [queries, >= k]."""
    wanted = min(k, truth_scores.shape[1])
    cut = truth_scores[:, wanted - 1 : wanted] - TIE
    found = (scores[:, :k] >= cut).sum(axis=1)
    return float(np.minimum(found, wanted).mean() / wanted)


def drop_repeats(ids: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """`ids` [queries, k] with repeats in a row, and what is no id of the base, turned to -1: an answer counts once."""
    clean = np.where((ids >= 0) & (ids < rows), ids, -1)
    for row in clean:
        _, first = np.unique(row, return_index=True)
        repeated = np.ones(len(row), bool)
        repeated[first] = False
        row[repeated] = -1
    return clean
