"""Worked out by hand."""

from __future__ import annotations

import numpy as np

from bench.ann.ablation import lists_needed, spread_needed
from datastore.ann.kinds.probing import Probing


def test_lists_needed() -> None:
    order = np.array([[0, 1, 2], [2, 1, 0]])
    sizes = np.array([5, 10, 20])
    ranks = np.array([[0, 1], [0, 2]])
    assert lists_needed(ranks, sizes, order, 0.5) == (1, (5 + 20) / 2)
    assert lists_needed(ranks, sizes, order, 0.75) == (2, (15 + 30) / 2)
    assert lists_needed(ranks, sizes, order, 1.0) == (3, 35.0)


def test_spread_needed() -> None:
    nlist = 64
    order = np.tile(np.arange(nlist), (2, 1))
    sizes = np.full(nlist, 10)
    # The first query's centroids fall off at once, the second's lie close together: one finds all in 4, one in 12.
    products = np.stack([1 - 0.05 * np.arange(nlist), 1 - 0.005 * np.arange(nlist)]).astype(np.float32)
    ranks = np.array([[0, 3], [5, 11]])
    margins = 0.02 * (2.0 ** np.arange(7)).astype(np.float32)
    lists, codes = spread_needed(ranks, sizes, products, order, probing=Probing(margins, nlist), target=1.0)
    assert codes < lists_needed(ranks, sizes, order, 1.0)[1] == 120
    assert codes == 10 * lists
