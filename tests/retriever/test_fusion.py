"""Fusion, worked out by hand."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from retriever.api import Fusion
from retriever.fusion import Ranked, fuse
from retriever.shard import Candidate

DENSE = {"a": 0.9, "b": 0.5, "c": 0.1}
BM25 = {"b": 10.0, "d": 4.0}


def candidates(scores: dict[str, float]) -> list[Candidate]:
    return [Candidate(name, 0, score, "s", 0) for name, score in scores.items()]


def order(ranked: list[Ranked]) -> str:
    return "".join(one.candidate.document_id for one in ranked)


def test_reciprocal_rank() -> None:
    ranked = fuse(candidates(DENSE), candidates(BM25), Fusion())
    assert order(ranked) == "badc"
    wanted = [Fraction(1, 62) + Fraction(1, 61), Fraction(1, 61), Fraction(1, 62), Fraction(1, 63)]
    assert [one.score for one in ranked] == pytest.approx([float(score) for score in wanted], abs=1e-15)
    assert [one.dense_score for one in ranked] == [0.5, 0.9, None, 0.1]
    assert [one.bm25_score for one in ranked] == [10.0, None, 4.0, None]


def test_reciprocal_rank_with_another_constant() -> None:
    ranked = fuse(candidates(DENSE), candidates(BM25), Fusion(rrf_k=1))
    assert [one.score for one in ranked] == pytest.approx([1 / 3 + 1 / 2, 1 / 2, 1 / 3, 1 / 4])


@pytest.mark.parametrize(
    ("weight", "wanted"),
    [
        # Dense comes to 1, 0.5, 0 and BM25 to 1, 0.
        (0.5, {"b": 0.75, "a": 0.5, "c": 0.0, "d": 0.0}),
        (0.8, {"a": 0.8, "b": 0.6, "c": 0.0, "d": 0.0}),
        (1.0, {"a": 1.0, "b": 0.5, "c": 0.0, "d": 0.0}),
        (0.0, {"b": 1.0, "a": 0.0, "c": 0.0, "d": 0.0}),
    ],
)
def test_convex(weight: float, wanted: dict[str, float]) -> None:
    ranked = fuse(candidates(DENSE), candidates(BM25), Fusion("convex", dense_weight=weight))
    assert order(ranked) == "".join(wanted)
    assert [one.score for one in ranked] == pytest.approx(list(wanted.values()))


def test_convex_of_negative_scores() -> None:
    ranked = fuse(candidates({"a": -1.0, "b": -3.0}), candidates({"b": 2.0, "a": 1.0}), Fusion("convex"))
    assert [(one.candidate.document_id, one.score) for one in ranked] == [("a", 0.5), ("b", 0.5)]


def test_convex_of_equal_scores_counts_them_as_the_best() -> None:
    ranked = fuse(candidates({"a": 0.3, "b": 0.3}), candidates({"c": 7.0}), Fusion("convex", dense_weight=0.6))
    assert [(one.candidate.document_id, one.score) for one in ranked] == [("a", 0.6), ("b", 0.6), ("c", 0.4)]


@pytest.mark.parametrize("fusion", [Fusion(), Fusion("convex")])
def test_one_side_empty_keeps_the_other_in_order(fusion: Fusion) -> None:
    assert order(fuse(candidates(DENSE), [], fusion)) == "abc"
    assert order(fuse([], candidates(BM25), fusion)) == "bd"
    assert fuse([], [], fusion) == []


def test_ties_break_by_stable_name() -> None:
    dense = [Candidate("a", 10, 1.0, "s", 0)]
    bm25 = [Candidate("a", 9, 1.0, "s", 1)]
    for fusion in (Fusion(), Fusion("convex")):
        assert [one.candidate.chunk_index for one in fuse(dense, bm25, fusion)] == [9, 10]
        assert [one.candidate.chunk_index for one in fuse(bm25, dense, fusion)] == [9, 10]


def test_permutations_change_nothing() -> None:
    shuffler = random.Random(7)
    names = [f"d{number}" for number in range(40)]
    for _ in range(50):
        dense = candidates({name: shuffler.random() for name in shuffler.sample(names, 25)})
        bm25 = candidates({name: shuffler.randrange(5) / 4 for name in shuffler.sample(names, 25)})
        scores = {one.candidate.name: one.score for one in fuse(dense, bm25, Fusion())}
        assert {one.candidate.name: one.score for one in fuse(bm25, dense, Fusion())} == scores
        convex = fuse(dense, bm25, Fusion("convex", dense_weight=0.3))
        shuffled = shuffler.sample(dense, len(dense)), shuffler.sample(bm25, len(bm25))
        assert fuse(*shuffled, Fusion("convex", dense_weight=0.3)) == convex
