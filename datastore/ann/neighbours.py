"""Exact nearest neighbours by brute force, in one pass over vectors that need not fit into memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_FEW = 4
"""Times the rows kept: how many a query collects before the worst are dropped."""


def nearest_rows(
    blocks: Iterable[NDArray[np.float32]], queries: NDArray[np.float32], count: int
) -> list[NDArray[np.int64]]:
    """For each of float32 [n, dimension] the rows of the greatest inner products, ascending: `count`, or all there are.

    Args:
        blocks: float32 [rows, dimension] one after another; rows count on from block to block.

    The products are those of a blocked matrix product, so that ranks of near-ties may be exchanged: ask for some more
    than are wanted, and score those again.
    """
    rows = [np.empty(0, np.int64) for _ in queries]
    scores = [np.empty(0, np.float32) for _ in queries]
    cuts = np.full(len(queries), -np.inf, np.float32)
    start = 0
    for block in blocks:
        products = queries @ block.T
        for query, mine in enumerate(products):
            better = np.flatnonzero(mine > cuts[query])
            if not len(better):
                continue
            rows[query] = np.concatenate([rows[query], better + start])
            scores[query] = np.concatenate([scores[query], mine[better]])
            if len(rows[query]) >= _FEW * count:
                cuts[query] = _keep_best(rows, scores, query, count)
        start += len(block)
    for query in range(len(queries)):
        _keep_best(rows, scores, query, count)
    return [np.sort(mine) for mine in rows]


def _keep_best(rows: list[NDArray[np.int64]], scores: list[NDArray[np.float32]], query: int, count: int) -> np.float32:
    """Drop all of one query but the best `count`; the least score among those."""
    if len(rows[query]) > count:
        best = np.argpartition(scores[query], -count)[-count:]
        rows[query], scores[query] = rows[query][best], scores[query][best]
    least: np.float32 = scores[query].min(initial=np.float32(np.inf))
    return least
