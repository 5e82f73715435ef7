"""Two ranked lists of one query become one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from retriever.api import Fusion
from retriever.shard import Candidate


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate with its final score and the scores that it came from."""

    candidate: Candidate
    score: float
    dense_score: float | None
    bm25_score: float | None
    duplicates: int = 0
    """Near-duplicates, dropped, that it stands for."""


def fuse(dense: Sequence[Candidate], bm25: Sequence[Candidate], fusion: Fusion) -> list[Ranked]:
    """All candidates of both lists, each once, best first; ties by stable name. Each list is best first."""
    weigh = _METHODS[fusion.method]
    fused = {
        (candidate.document_id, candidate.chunk_index): Ranked(candidate, part, candidate.score, None)
        for candidate, part in zip(dense, weigh(dense, fusion, fusion.dense_weight), strict=True)
    }
    for candidate, part in zip(bm25, weigh(bm25, fusion, 1.0 - fusion.dense_weight), strict=True):
        name = (candidate.document_id, candidate.chunk_index)
        other = fused.get(name)
        if other is None:
            fused[name] = Ranked(candidate, part, None, candidate.score)
        else:
            fused[name] = Ranked(other.candidate, other.score + part, other.dense_score, candidate.score)
    return [ranked for _, _, ranked in sorted((-ranked.score, name, ranked) for name, ranked in fused.items())]


def rank(dense: Sequence[Candidate] | None, bm25: Sequence[Candidate] | None, fusion: Fusion) -> list[Ranked]:
    """The one list that was asked for, or both fused; None is a side not asked for."""
    if bm25 is None:
        return [Ranked(candidate, candidate.score, candidate.score, None) for candidate in dense or ()]
    if dense is None:
        return [Ranked(candidate, candidate.score, None, candidate.score) for candidate in bm25]
    return fuse(dense, bm25, fusion)


def _reciprocal_rank(candidates: Sequence[Candidate], fusion: Fusion, weight: float) -> list[float]:
    """1 / (rrf_k + rank), both lists alike. Cormack, Clarke, Büttcher: Reciprocal Rank Fusion, SIGIR 2009."""
    return [1.0 / (fusion.rrf_k + rank) for rank in range(1, len(candidates) + 1)]


def _convex(candidates: Sequence[Candidate], fusion: Fusion, weight: float) -> list[float]:
    """weight * (score - min) / (max - min) over the list; a passage that the list lacks counts as its worst.

    Bruch, Gai, Ingber: An Analysis of Fusion Functions for Hybrid Retrieval, TOIS 2023.
    """
    scores = [candidate.score for candidate in candidates]
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    return [weight * ((score - low) / (high - low) if high > low else 1.0) for score in scores]


_METHODS: dict[str, Callable[[Sequence[Candidate], Fusion, float], list[float]]] = {
    "rrf": _reciprocal_rank,
    "convex": _convex,
}
"""Name -> what each candidate of a list, best first, adds to its passage's score."""
