"""Diversity against plain Python that follows the definitions word for word, and what must hold for any list."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from retriever.diversity import Chosen, collapse, cosine_similarities, diversify, maximal_marginal_relevance

# Small whole numbers: many ties and equal vectors, and no cosine near the middle of two rounded ones.
rows = st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3), min_size=1, max_size=12)
lambdas = st.floats(0, 1)
thresholds = st.sampled_from([0.0, 0.5, 0.6, 0.9, 1.0]) | st.floats(0, 1)


def scores_of(count: int) -> st.SearchStrategy[list[float]]:
    values = st.lists(st.integers(-5, 5) | st.floats(-1e6, 1e6), min_size=count, max_size=count)
    return values.map(lambda scores: sorted(map(float, scores), reverse=True))


@st.composite
def ranked_lists(draw: st.DrawFn) -> tuple[list[list[int]], list[float]]:
    vectors = draw(rows)
    return vectors, draw(scores_of(len(vectors)))


def as_array(vectors: list[list[int]]) -> NDArray[np.float32]:
    return np.array(vectors, np.float32)


def cosine(a: list[int], b: list[int]) -> float:
    product = math.hypot(*a) * math.hypot(*b)
    return round(sum(x * y for x, y in zip(a, b, strict=True)) / product, 6) if product else 0.0


def slow_collapse(vectors: list[list[int]], threshold: float) -> list[Chosen]:
    kept: dict[int, int] = {}
    for place, vector in enumerate(vectors):
        holder = next((k for k in kept if cosine(vectors[k], vector) >= threshold), None)
        if holder is None:
            kept[place] = 0
        else:
            kept[holder] += 1
    return [Chosen(place, duplicates) for place, duplicates in kept.items()]


def slow_mmr(vectors: list[list[int]], scores: list[float], k: int, mmr_lambda: float) -> list[int]:
    low, high = min(scores), max(scores)
    chosen: list[int] = []
    while len(chosen) < min(k, len(scores)):
        best, best_gain = -1, -math.inf
        for place, score in enumerate(scores):
            if place in chosen:
                continue
            relevance = (score - low) / (high - low) if high > low else 1.0
            nearest = max((cosine(vectors[place], vectors[other]) for other in chosen), default=0.0)
            gain = mmr_lambda * relevance - (1.0 - mmr_lambda) * nearest
            if gain > best_gain:
                best, best_gain = place, gain
        chosen.append(best)
    return chosen


@given(rows, thresholds)
def test_collapse_is_the_slow_one(vectors: list[list[int]], threshold: float) -> None:
    assert collapse(cosine_similarities(as_array(vectors)), threshold) == slow_collapse(vectors, threshold)


@given(ranked_lists(), lambdas, st.integers(1, 15))
def test_marginal_relevance_is_the_slow_one(
    ranked: tuple[list[list[int]], list[float]], mmr_lambda: float, k: int
) -> None:
    vectors, scores = ranked
    similarities = cosine_similarities(as_array(vectors))
    assert maximal_marginal_relevance(similarities, scores, k, mmr_lambda) == slow_mmr(vectors, scores, k, mmr_lambda)


@given(ranked_lists(), lambdas, thresholds, st.integers(1, 15))
def test_both_are_marginal_relevance_of_what_collapse_keeps(
    ranked: tuple[list[list[int]], list[float]], mmr_lambda: float, threshold: float, k: int
) -> None:
    vectors, scores = ranked
    kept = slow_collapse(vectors, threshold)
    left = [vectors[chosen.place] for chosen in kept], [scores[chosen.place] for chosen in kept]
    both = diversify(as_array(vectors), scores, k, mmr_lambda=mmr_lambda, collapse_similarity=threshold)
    assert both == [kept[position] for position in slow_mmr(*left, k, mmr_lambda)]
    assert diversify(as_array(vectors), scores, k, collapse_similarity=threshold) == kept[:k]
    assert diversify(as_array(vectors), scores, k) == [Chosen(place, 0) for place in range(min(k, len(scores)))]


@given(ranked_lists(), st.integers(1, 15))
def test_relevance_alone_keeps_the_order(ranked: tuple[list[list[int]], list[float]], k: int) -> None:
    vectors, scores = ranked
    chosen = diversify(as_array(vectors), scores, k, mmr_lambda=1.0)
    assert chosen == [Chosen(place, 0) for place in range(min(k, len(scores)))]


@given(ranked_lists(), lambdas, st.integers(1, 15))
def test_the_best_is_always_first_and_none_comes_twice(
    ranked: tuple[list[list[int]], list[float]], mmr_lambda: float, k: int
) -> None:
    vectors, scores = ranked
    places = [chosen.place for chosen in diversify(as_array(vectors), scores, k, mmr_lambda=mmr_lambda)]
    assert places[0] == 0
    assert len(set(places)) == len(places) == min(k, len(scores))


@given(ranked_lists(), st.sampled_from([0.25, 0.5, 0.75]), st.integers(-3, 3), st.integers(-8, 8))
def test_the_scale_of_scores_does_not_matter(
    ranked: tuple[list[list[int]], list[float]], mmr_lambda: float, power: int, shift: int
) -> None:
    """By a power of two and a whole number, of whole scores, which floats hold exactly."""
    vectors, scores = as_array(ranked[0]), [float(round(score)) for score in ranked[1]]
    scaled = [score * 2.0**power + shift for score in scores]
    wanted = diversify(vectors, scores, 15, mmr_lambda=mmr_lambda)
    assert diversify(vectors, scaled, 15, mmr_lambda=mmr_lambda) == wanted


@given(rows)
def test_beyond_any_cosine_nothing_is_dropped(vectors: list[list[int]]) -> None:
    chosen = diversify(as_array(vectors), [0.0] * len(vectors), 12, collapse_similarity=1.00001)
    assert chosen == [Chosen(place, 0) for place in range(len(vectors))]


@given(
    st.integers(1, 400),
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 3), min_size=2, max_size=12),
    st.integers(-3, 3),
)
def test_exact_duplicates_always_collapse(dimension: int, seed: int, copies: list[int], exponent: int) -> None:
    """Whatever the number of components and their size."""
    distinct = np.random.default_rng(seed).standard_normal((4, dimension)) * 10.0**exponent
    stored = distinct.astype(np.float16).astype(np.float32)
    stored[:, 0] += 1e-3  # never all zeros
    chosen = collapse(cosine_similarities(stored[copies]), 1.0)
    assert sum(1 + duplicates for _, duplicates in chosen) == len(copies)
    kept = [copies[place] for place, _ in chosen]
    assert len(set(kept)) == len(kept)


@given(rows, thresholds)
def test_what_is_kept_is_not_alike_and_what_is_dropped_is(vectors: list[list[int]], threshold: float) -> None:
    similarities = cosine_similarities(as_array(vectors))
    chosen = collapse(similarities, threshold)
    kept = [place for place, _ in chosen]
    assert kept[0] == 0
    assert sum(1 + duplicates for _, duplicates in chosen) == len(vectors)
    for place in range(len(vectors)):
        better = [similarities[other, place] for other in kept if other < place]
        assert (place in kept) == all(similarity < threshold for similarity in better)


def test_a_vector_of_zeros_is_like_nothing() -> None:
    vectors = np.array([[0, 0], [0, 0], [1, 0]], np.float32)
    assert cosine_similarities(vectors).tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert diversify(vectors, [3, 2, 1], 3, collapse_similarity=0.9) == [(0, 0), (1, 0), (2, 0)]


def test_an_empty_list() -> None:
    nothing = np.empty((0, 4), np.float32)
    assert diversify(nothing, [], 5, mmr_lambda=0.5, collapse_similarity=0.9) == []


@pytest.mark.parametrize(
    ("mmr_lambda", "wanted"),
    [
        # Relevance is 1, 0.9, 0.5, 0. The second is like the first (0.8), the third like neither, the fourth opposite.
        (1.0, [0, 1, 2, 3]),
        (0.8, [0, 1, 2, 3]),  # 0.72 - 0.16 = 0.56 against 0.40 and 0.20; then 0.40 against 0.16
        (0.5, [0, 3, 2, 1]),  # 0.45 - 0.40 = 0.05, 0.25 and 0 + 0.5; then 0.05 against 0.25
        (0.0, [0, 3, 2, 1]),
    ],
)
def test_marginal_relevance_by_hand(mmr_lambda: float, wanted: list[int]) -> None:
    vectors = np.array([[1, 0, 0], [0.8, 0.6, 0], [0, 0, 1], [-1, 0, 0]], np.float32)
    assert [place for place, _ in diversify(vectors, [30, 29, 25, 20], 4, mmr_lambda=mmr_lambda)] == wanted
