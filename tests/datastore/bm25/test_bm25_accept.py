"""Filtered BM25 is the unfiltered search to the end, less what the filter refuses: same passages, scores and order."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from datastore.bm25.index import Bm25Index, Bm25Writer
from datastore.bm25.statistics import Bm25Statistics
from datastore.errors import DataLoss, FailedPrecondition
from datastore.filters.survivors import Survivors

if TYPE_CHECKING:
    from tests.datastore.bm25.conftest import MakeIndex

SIZES = (700, 0, 65, 3, 128)
WORDS = ("fox", "hen", "owl", "cat", "dog", "elk", "bee", "ant")


def accepting(kept: NDArray[np.bool_]) -> Survivors:
    return Survivors(kept.size, np.packbits(kept, bitorder="little"))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bm25Index]:
    rng = np.random.default_rng(0)
    paths = []
    for number, size in enumerate(SIZES):
        paths.append(tmp_path_factory.mktemp("bm25") / str(number))
        with Bm25Writer(paths[-1]) as writer:
            for _ in range(size):
                # Some words are rare, and many passages have equal scores.
                writer.add([" ".join(WORDS[i] for i in rng.geometric(0.4, rng.integers(0, 9)) - 1 if i < len(WORDS))])
    index = Bm25Index(paths, "english")
    yield index
    index.close()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    query=st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join),
    seed=st.integers(0, 1 << 32),
    shares=st.lists(st.sampled_from([0.0, 0.01, 0.5, 0.99, 1.0]), min_size=len(SIZES), max_size=len(SIZES)),
    k=st.sampled_from([1, 10, 10_000]),
    as_part=st.booleans(),
)
def test_accepted_passages_keep_their_scores_and_order(
    *, index: Bm25Index, query: str, seed: int, shares: list[float], k: int, as_part: bool
) -> None:
    rng = np.random.default_rng(seed)
    kept = [rng.random(size) < share for size, share in zip(SIZES, shares, strict=True)]
    whole = None
    if as_part:
        own = index.statistics(query)
        more = {term: 2 * count + 1 for term, count in own.document_frequencies.items()}
        whole = Bm25Statistics(3 * own.document_count, 4 * own.total_terms, more)
    rows, scores = index.search(query, 10_000, statistics=whole)
    wanted = np.flatnonzero(np.concatenate(kept)[rows])[:k]
    got = index.search(query, k, statistics=whole, accept=[accepting(each) for each in kept])
    np.testing.assert_array_equal(got[0], rows[wanted])
    np.testing.assert_array_equal(got[1], scores[wanted])
    assert (got[0].dtype.name, got[1].dtype.name) == ("int64", "float32")


def test_nothing_accepted_is_an_empty_answer(index: Bm25Index) -> None:
    rows, scores = index.search("fox", 5, accept=[accepting(np.zeros(size, bool)) for size in SIZES])
    assert (rows.tolist(), scores.tolist()) == ([], [])


def test_one_passage_accepted(make_index: MakeIndex) -> None:
    index = make_index(["red fox", "red hen"], ["blue fox"])
    accept = [accepting(np.array(kept)) for kept in ([False, False], [True])]
    assert index.search("red fox", 5, accept=accept)[0].tolist() == [2]
    assert index.search("red", 5, accept=accept)[0].tolist() == []


@pytest.mark.parametrize("sizes", [(), (700,), (700, 0, 65, 3, 127), (0, 700, 65, 3, 128)])
def test_survivors_of_other_segments_are_refused(index: Bm25Index, sizes: tuple[int, ...]) -> None:
    with pytest.raises(FailedPrecondition, match="accept has"):
        index.search("fox", 5, accept=[accepting(np.ones(size, bool)) for size in sizes])


def test_threads_filter_at_once(index: Bm25Index) -> None:
    rng = np.random.default_rng(1)
    accepts = [[accepting(rng.random(size) < 0.3) for size in SIZES] for _ in range(16)]
    alone = [index.search("fox owl", 50, accept=accept) for accept in accepts]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda i: index.search("fox owl", 50, accept=accepts[i % 16]), range(160)))
    for i, got in enumerate(together):
        for mine, wanted in zip(got, alone[i % 16], strict=True):
            np.testing.assert_array_equal(mine, wanted)


def test_an_index_in_several_parts_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bm25Writer, "_check", lambda self: None)
    writer = Bm25Writer(tmp_path / "bm25")
    monkeypatch.setattr(writer, "_writer", _Committing(writer._writer))
    writer.add(["red fox"])
    writer.add(["red hen"])
    writer.finish()
    with pytest.raises(DataLoss, match="has 2 parts; wanted one"):
        Bm25Index([tmp_path / "bm25"], "english")


class _Committing:
    """Lucene's writer, which ends a part after every passage and merges none."""

    def __init__(self, writer: object) -> None:
        self._writer = writer

    def __getattr__(self, name: str) -> object:
        return getattr(self._writer, name)

    def addDocument(self, passage: object) -> None:  # noqa: N802
        self._writer.addDocument(passage)  # type: ignore[attr-defined]
        self._writer.commit()  # type: ignore[attr-defined]

    def forceMerge(self, parts: int) -> None:  # noqa: N802
        pass
