"""Exact neighbours and recall, against examples worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bench.ann.truth import TIE, drop_repeats, exact_neighbours, exact_scores, recall

BASE = np.array([[1, 0], [0, 1], [0.5, 0.5], [-1, 0], [1, 0]], np.float16)
QUERIES = np.array([[1, 0], [0, 2]], np.float32)


def test_neighbours_by_hand() -> None:
    ids, scores = exact_neighbours(BASE, QUERIES, 3)
    assert ids.tolist() == [[0, 4, 2], [1, 2, 0]]
    assert scores.tolist() == [[1, 1, 0.5], [2, 1, 0]]


def test_no_more_neighbours_than_vectors() -> None:
    ids, _ = exact_neighbours(BASE, QUERIES, 50)
    assert sorted(ids[0].tolist()) == [0, 1, 2, 3, 4]


def test_neighbours_over_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.ann.truth._BLOCK", 37)
    generator = np.random.default_rng(1)
    base = generator.normal(size=(500, 8)).astype(np.float16)
    queries = generator.normal(size=(20, 8)).astype(np.float32)
    ids, scores = exact_neighbours(base, queries, 25)
    products = queries.astype(np.float64) @ base.astype(np.float64).T
    np.testing.assert_array_equal(ids, np.argsort(-products, axis=1)[:, :25])
    np.testing.assert_allclose(scores, -np.sort(-products, axis=1)[:, :25], atol=1e-5)


def test_scores_of_ids() -> None:
    scores = exact_scores(BASE, QUERIES, np.array([[2, -1], [3, 1]]))
    assert scores.tolist() == [[0.5, -np.inf], [0, 2]]


TRUTH = np.array([[0.9, 0.8, 0.7], [0.6, 0.5, 0.5]], np.float32)


@pytest.mark.parametrize(
    ("found", "k", "expected"),
    [
        ([[0.9, 0.8], [0.6, 0.5]], 2, 1.0),
        ([[0.9, 0.7], [0.6, 0.5]], 2, 0.75),  # one of four is missing
        ([[0.8, 0.7], [0.5, 0.5]], 2, 0.75),  # the tie for the second place counts, twice
        ([[0.9, -np.inf], [-np.inf, -np.inf]], 2, 0.25),
        ([[0.8], [0.6]], 1, 0.5),
        ([[0.9, 0.8, 0.7], [0.6, 0.5, 0.4]], 3, 5 / 6),
    ],
)
def test_recall_by_hand(found: list[list[float]], k: int, expected: float) -> None:
    assert recall(np.array(found, np.float32), TRUTH, k) == pytest.approx(expected)


def test_rounding_is_no_miss_but_a_worse_result_is() -> None:
    near = np.array([[0.9, 0.8 - TIE / 2]], np.float32)
    worse = np.array([[0.9, 0.8 - 20 * TIE]], np.float32)
    assert recall(near, TRUTH[:1], 2) == 1.0
    assert recall(worse, TRUTH[:1], 2) == 0.5


def test_what_is_found_twice_counts_once() -> None:
    ids = np.array([[4, 4, 7, 4], [1, 99, -5, 2]])
    assert drop_repeats(ids, 50).tolist() == [[4, -1, 7, -1], [1, -1, -1, 2]]
