"""Results that do not repeat themselves: near-duplicate collapse and maximal marginal relevance over exact vectors.

Pure functions over a ranked list: float32 vectors [n, dimension] and float scores [n], best first, ties by stable name.
Wherever two choices are equal the one that the list has first is taken, so the same list gives the same answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_COSINE_DECIMALS = 6
"""Coarser than what rounding leaves of a sum, finer than what float16 vectors tell apart: equal vectors have a cosine
of exactly 1, and what ties does so on every machine."""


class Chosen(NamedTuple):
    """A place in the list, from 0, and how many near-duplicates, dropped, it stands for."""

    place: int
    duplicates: int


def diversify(
    vectors: NDArray[np.float32],
    scores: Sequence[float],
    k: int,
    *,
    mmr_lambda: float | None = None,
    collapse_similarity: float | None = None,
) -> list[Chosen]:
    """The best k of a list: first collapsed, then chosen by marginal relevance; None leaves a step out.

    Args:
        vectors: float32 [n, dimension], one for each place.
        scores: [n], descending.
    """
    similarities = cosine_similarities(vectors)
    kept = [Chosen(place, 0) for place in range(len(scores))]
    if collapse_similarity is not None:
        kept = collapse(similarities, collapse_similarity)
    if mmr_lambda is None:
        return kept[:k]
    places = [chosen.place for chosen in kept]
    order = maximal_marginal_relevance(
        similarities[np.ix_(places, places)], [scores[place] for place in places], k, mmr_lambda
    )
    return [kept[position] for position in order]


def cosine_similarities(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """float64 [n, n], to six decimals; a vector of zeros is like nothing, itself included."""
    exact = vectors.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    units = np.divide(exact, lengths, out=np.zeros_like(exact), where=lengths > 0)
    similarities: NDArray[np.float64] = np.round(units @ units.T, _COSINE_DECIMALS)
    return similarities


def collapse(similarities: NDArray[np.float64], threshold: float) -> list[Chosen]:
    """Greedy, best first: a place whose similarity to a kept one is at least `threshold` is dropped.

    It counts as a duplicate of the first such: the kept one that the list has highest.
    """
    kept = []
    free = np.ones(len(similarities), bool)
    for place in range(len(similarities)):
        if free[place]:
            alike = free & (similarities[place] >= threshold)
            alike[place] = True
            free &= ~alike
            kept.append(Chosen(place, int(alike.sum()) - 1))
    return kept


def maximal_marginal_relevance(
    similarities: NDArray[np.float64], scores: Sequence[float], k: int, mmr_lambda: float
) -> list[int]:
    """Up to k places, in the order chosen. Carbonell, Goldstein: The Use of MMR, SIGIR 1998.

    Each time the place with the greatest

        lambda * relevance - (1 - lambda) * max(similarity to each place already chosen)

    is taken; before the first, the maximum is 0. The paper takes one similarity for both terms. Here relevance is the
    list's own score, which may be an inner product, BM25 or a fused rank, so it is brought to 0..1 over the list, like
    the similarities' usual range: (score - least) / (greatest - least), and 1 everywhere if all are equal. Lambda then
    weighs the same way in every mode, and neither a factor nor a constant in the scores changes the order. At lambda 1
    it is the list's own, at 0 relevance decides the first place alone.
    """
    given = np.asarray(scores, np.float64)
    left = np.ones(len(given), bool)
    order: list[int] = []
    if not len(given):
        return order
    low, high = given.min(), given.max()
    relevance = (given - low) / (high - low) if high > low else np.ones_like(given)
    nearest = np.zeros_like(given)
    for _ in range(min(k, len(given))):
        gain = mmr_lambda * relevance - (1.0 - mmr_lambda) * nearest
        best = int(np.argmax(np.where(left, gain, -np.inf)))
        nearest = np.maximum(nearest, similarities[best]) if order else similarities[best]
        left[best] = False
        order.append(best)
    return order
