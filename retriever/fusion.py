"""Two ranked lists of one query become one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from datastore.documents import PassageName
from retriever.api import Fusion
from retriever.shard import Candidate


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate with its final score and the scores that it came from."""

    candidate: Candidate
    score: float
    dense_score: float | None
    bm25_score: float | None


def fuse(dense: Sequence[Candidate], bm25: Sequence[Candidate], fusion: Fusion) -> list[Ranked]:
    """All candidates of both lists, each once, best first; ties by stable name. Each list is best first."""
    weigh = _METHODS[fusion.method]
    dense_parts = weigh(dense, fusion, fusion.dense_weight)
    bm25_parts = weigh(bm25, fusion, 1.0 - fusion.dense_weight)
    dense_by_name = {candidate.name: candidate for candidate in dense}
    bm25_by_name = {candidate.name: candidate for candidate in bm25}
    fused = [
        Ranked(
            candidate,
            dense_parts.get(name, 0.0) + bm25_parts.get(name, 0.0),
            dense_by_name[name].score if name in dense_by_name else None,
            bm25_by_name[name].score if name in bm25_by_name else None,
        )
        for name, candidate in {**bm25_by_name, **dense_by_name}.items()
    ]
    fused.sort(key=lambda ranked: (-ranked.score, ranked.candidate.name))
    return fused


def _reciprocal_rank(candidates: Sequence[Candidate], fusion: Fusion, weight: float) -> dict[PassageName, float]:
    """1 / (rrf_k + rank), both lists alike. Cormack, Clarke, Büttcher: Reciprocal Rank Fusion, SIGIR 2009."""
    return {candidate.name: 1.0 / (fusion.rrf_k + rank) for rank, candidate in enumerate(candidates, 1)}


def _convex(candidates: Sequence[Candidate], fusion: Fusion, weight: float) -> dict[PassageName, float]:
    """weight * (score - min) / (max - min) over the list; a passage that the list lacks counts as its worst.

    Bruch, Gai, Ingber: An Analysis of Fusion Functions for Hybrid Retrieval, TOIS 2023.
    """
    if not candidates:
        return {}
    low = min(candidate.score for candidate in candidates)
    spread = max(candidate.score for candidate in candidates) - low
    return {
        candidate.name: weight * ((candidate.score - low) / spread if spread > 0 else 1.0) for candidate in candidates
    }


_METHODS: dict[str, Callable[[Sequence[Candidate], Fusion, float], dict[PassageName, float]]] = {
    "rrf": _reciprocal_rank,
    "convex": _convex,
}
