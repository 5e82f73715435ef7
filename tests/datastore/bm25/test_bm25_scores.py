"""Scores against an independent BM25, and of a collection in parts against the collection as a whole."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from datastore.bm25.index import Bm25Index, Bm25Writer
from datastore.bm25.similarity import score_as_part
from datastore.bm25.statistics import Bm25Statistics
from datastore.errors import InvalidArgument

if TYPE_CHECKING:
    from tests.datastore.bm25.conftest import Collection, MakeIndex

WORDS = ["ash", "birch", "cedar", "elm", "fir", "larch", "oak", "pine", "rowan", "yew"]
ALL = 1_000_000


def _stored_length(length: int) -> int:
    """The length that Lucene remembers: exact below 40, then four significant bits, in one byte (SmallFloat)."""
    free = 24
    if length < free:
        return length
    rest = length - free
    shift = max(rest.bit_length() - 4, 0)
    return free + (rest >> shift << shift)


def _oracle(passages: Sequence[Sequence[str]], query: Sequence[str], k1: float, b: float) -> NDArray[np.float64]:
    """float64 [passages]: the score of each; 0 where no term matches."""
    lengths = np.array([_stored_length(len(passage)) for passage in passages], np.float64)
    counts = [Counter(passage) for passage in passages]
    total = np.zeros(len(passages))
    present = sum(1 for passage in passages if passage)
    average = sum(map(len, passages)) / max(present, 1)
    for term, weight in Counter(query).items():
        frequency = np.array([count[term] for count in counts], np.float64)
        (matching,) = np.nonzero(frequency)
        if matching.size:
            idf = np.log(1 + (present - matching.size + 0.5) / (matching.size + 0.5))
            tf = frequency[matching]
            total[matching] += weight * idf * tf / (tf + k1 * (1 - b + b * lengths[matching] / average))
    return total


def _cut(texts: Sequence[str], parts: int) -> list[Sequence[str]]:
    """Parts of unlike size: each but the last has a third of what is left, perhaps nothing."""
    cuts = []
    for _ in range(parts - 1):
        size = len(texts) // 3
        cuts.append(texts[:size])
        texts = texts[size:]
    return [*cuts, texts]


def _search_parts(
    parts: Sequence[Bm25Index], query: str, k1: float, b: float
) -> tuple[list[int], list[float], Bm25Statistics]:
    """What a router does: sum the statistics, search each part, merge by score and then by row."""
    whole = Bm25Statistics.merge(part.statistics(query) for part in parts)
    found, base = [], 0
    for part in parts:
        rows, scores = part.search(query, ALL, k1=k1, b=b, statistics=whole)
        found += [(-float(score), base + int(row)) for row, score in zip(rows, scores, strict=True)]
        base += part.passage_count
    found.sort()
    return [row for _, row in found], [-score for score, _ in found], whole


def _assert_same(whole: Bm25Index, parts: Sequence[Bm25Index], query: str, k1: float, b: float) -> None:
    rows, scores = whole.search(query, ALL, k1=k1, b=b)
    merged_rows, merged_scores, statistics = _search_parts(parts, query, k1, b)
    assert statistics == whole.statistics(query)
    assert sorted(merged_rows) == sorted(rows.tolist())
    by_row = dict(zip(rows.tolist(), scores.tolist(), strict=True))
    np.testing.assert_allclose(merged_scores, [by_row[row] for row in merged_rows], rtol=1e-5, atol=1e-5)
    # The order may differ only among scores that are equal within the tolerance.
    np.testing.assert_allclose(merged_scores, scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (1.2, 0.75), (0.0, 0.4), (2.0, 0.0), (0.9, 1.0)])
def test_scores_are_those_of_the_formula(make_index: MakeIndex, k1: float, b: float) -> None:
    random = np.random.default_rng(3)
    passages = [list(random.choice(WORDS, size=random.integers(0, 400))) for _ in range(150)]
    passages[7] = []
    index = make_index([" ".join(p) for p in passages], analyzer="whitespace")
    for _ in range(20):
        query = list(random.choice([*WORDS, "absent"], size=random.integers(1, 8)))
        expected = _oracle(passages, query, k1, b)
        rows, scores = index.search(" ".join(query), ALL, k1=k1, b=b)
        assert set(rows.tolist()) == set(np.flatnonzero(expected > 0).tolist())
        np.testing.assert_allclose(scores, expected[rows], rtol=1e-5)
        assert all((-scores[i], rows[i]) <= (-scores[i + 1], rows[i + 1]) for i in range(len(rows) - 1))


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_cacm_in_parts_scores_as_the_whole(cacm: Collection, make_index: MakeIndex, count: int) -> None:
    texts = list(cacm.passages.values())
    whole = make_index(texts)
    parts = [make_index(part) for part in _cut(texts, count)]
    differs = False
    for query in cacm.queries.values():
        _assert_same(whole, parts, query, 0.9, 0.4)
        own = np.concatenate([part.search(query, ALL)[1] for part in parts])
        differs |= not np.allclose(np.sort(own)[::-1], whole.search(query, ALL)[1], rtol=1e-3)
    assert differs == (count > 1), "without common statistics, parts must score differently"


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize(("k1", "b"), [(0.0, 0.5), (0.9, 0.0), (0.9, 1.0), (1.2, 0.75)])
def test_parts_of_unlike_lengths(make_index: MakeIndex, count: int, k1: float, b: float) -> None:
    random = np.random.default_rng(count)
    texts = [" ".join(random.choice(WORDS, size=1 + i * i // 20)) for i in range(80)]
    parts = [make_index(part, analyzer="whitespace") for part in [*_cut(texts, count), [], ["", ""]]]
    whole = make_index([*texts, "", ""], analyzer="whitespace")
    for query in ("oak", "yew yew ash", " ".join(WORDS), "absent", "absent elm"):
        _assert_same(whole, parts, query, k1, b)


@settings(max_examples=40, deadline=None)
@given(
    segments=st.lists(st.lists(st.lists(st.sampled_from(WORDS), max_size=60), max_size=6), min_size=1, max_size=5),
    query=st.lists(st.sampled_from([*WORDS, "absent"]), min_size=1, max_size=12),
    k1=st.floats(0.0, 5.0),
    b=st.floats(0.0, 1.0),
)
def test_any_collection_in_parts(segments: list[list[list[str]]], query: list[str], k1: float, b: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, str(i)) for i in range(len(segments))]
        for path, passages in zip(paths, segments, strict=True):
            with Bm25Writer(path, "whitespace") as writer:
                writer.add([" ".join(passage) for passage in passages])
        whole = Bm25Index(paths, "whitespace")
        parts = [Bm25Index([path], "whitespace") for path in paths]
        text = " ".join(query)
        _assert_same(whole, parts, text, k1, b)
        expected = _oracle([passage for segment in segments for passage in segment], query, k1, b)
        rows, scores = whole.search(text, ALL, k1=k1, b=b)
        np.testing.assert_allclose(scores, expected[rows], rtol=1e-5)
        for index in (whole, *parts):
            index.close()


def test_statistics_count_each_distinct_term(make_index: MakeIndex) -> None:
    index = make_index(["The oak and the elm", "An oak", "", "of the"], ["Oaks, oaks: OAKS!"])
    assert index.statistics("oaks and elms in winter, oaks") == Bm25Statistics(3, 6, {"oak": 3, "elm": 1, "winter": 0})
    assert index.statistics("of the") == Bm25Statistics(3, 6, {})


@pytest.mark.parametrize(
    ("statistics", "seen"),
    [
        (Bm25Statistics(10, 30, {}), "None of 10"),
        (Bm25Statistics(10, 30, {"oak": 11}), "11 of 10"),
        (Bm25Statistics(10, 30, {"oak": -1}), "-1 of 10"),
        (Bm25Statistics(10, 0, {"oak": 3}), "0 terms"),
    ],
)
def test_statistics_of_something_else_are_refused(make_index: MakeIndex, statistics: Bm25Statistics, seen: str) -> None:
    index = make_index(["oak"])
    with pytest.raises(InvalidArgument, match=seen) as caught:
        index.search("oak", 1, statistics=statistics)
    assert caught.value.field == "statistics"


def test_part_parameters_keep_the_length_norm() -> None:
    part, whole = Bm25Statistics(10, 500, {"oak": 2}), Bm25Statistics(100, 2000, {"oak": 40})
    weights, k1, b = score_as_part({"oak": 2.0, "elm": 1.0}, 0.9, 0.4, _with(part, elm=0), _with(whole, elm=7))
    assert list(weights) == ["oak"], "a term that the part lacks is left out"
    assert weights["oak"] == pytest.approx(2 * np.log(1 + 60.5 / 40.5) / np.log(1 + 8.5 / 2.5), rel=1e-6)
    for length in (1, 50, 3000):
        assert k1 * (1 - b + b * length / 50) == pytest.approx(0.9 * (1 - 0.4 + 0.4 * length / 20))


def _with(statistics: Bm25Statistics, **frequencies: int) -> Bm25Statistics:
    return Bm25Statistics(
        statistics.document_count, statistics.total_terms, {**statistics.document_frequencies, **frequencies}
    )
