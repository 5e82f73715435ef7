"""Worked out by hand."""

from __future__ import annotations

import numpy as np

from bench.ann.ablation import lists_needed


def test_lists_needed() -> None:
    order = np.array([[0, 1, 2], [2, 1, 0]])
    sizes = np.array([5, 10, 20])
    ranks = np.array([[0, 1], [0, 2]])
    assert lists_needed(ranks, sizes, order, 0.5) == (1, (5 + 20) / 2)
    assert lists_needed(ranks, sizes, order, 0.75) == (2, (15 + 30) / 2)
    assert lists_needed(ranks, sizes, order, 1.0) == (3, 35.0)
