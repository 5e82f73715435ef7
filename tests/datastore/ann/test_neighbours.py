"""Exact neighbours in one pass, against a sort of all products."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from datastore.ann.neighbours import nearest_rows


@pytest.mark.parametrize("count", [1, 7, 150])
@pytest.mark.parametrize("bounds", [[0, 400], [0, 1, 2, 150, 400], [0, 390, 400]])
def test_neighbours_over_blocks(bounds: list[int], count: int) -> None:
    random = np.random.default_rng(5)
    vectors = random.standard_normal((400, 12)).astype(np.float32)
    queries = random.standard_normal((9, 12)).astype(np.float32)
    blocks = (vectors[start:stop] for start, stop in pairwise(bounds))
    found = nearest_rows(blocks, queries, count)
    wanted = np.argsort(-(queries.astype(np.float64) @ vectors.T.astype(np.float64)), axis=1)[:, :count]
    assert [rows.tolist() for rows in found] == np.sort(wanted, axis=1).tolist()


def test_fewer_vectors_than_asked_for() -> None:
    vectors = np.eye(3, dtype=np.float32)
    assert [rows.tolist() for rows in nearest_rows([vectors[:1], vectors[1:]], vectors[:2], 10)] == [[0, 1, 2]] * 2


def test_ties_take_any_but_never_a_worse_one() -> None:
    vectors = np.repeat(np.array([[1.0], [0.5], [1.0], [0.25]], np.float32), 30, axis=0)
    (rows,) = nearest_rows([vectors[:50], vectors[50:]], np.ones((1, 1), np.float32), 40)
    assert len(set(rows.tolist())) == 40
    assert (vectors[rows] == 1.0).all()
