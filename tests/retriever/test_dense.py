"""Dense search of a shard, by codes and with filters, against brute force over the stored vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datastore.filters.language import parse
from datastore.store.reader import StoreReader
from retriever import filtered
from retriever.dense import DenseSearch, Found
from retriever.filtered import Accepted

KINDS = {
    "flat": {"kind": "flat"},
    "ivf-pq": {"kind": "ivf-pq", "nlist": 16, "pq_m": 64},
    "ivf-pq4": {"kind": "ivf-pq4", "nlist": 32},
    "ivf-pq4, one copy": {"kind": "ivf-pq4", "nlist": 32, "copies": 1},
    "ivf-rabitq": {"kind": "ivf-rabitq", "nlist": 32, "bits": 4},  # sign bits alone are lost in so many near-ties
}


@pytest.fixture(scope="module", params=sorted(KINDS))
def reader(request: pytest.FixtureRequest, documents: Path, build_store: Callable[..., Path]) -> Iterator[StoreReader]:
    opened = StoreReader(
        build_store(documents, chunk={"words": 16}, segment={"passages": 900}, index=KINDS[request.param])
    )
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def vectors(reader: StoreReader) -> NDArray[np.float32]:
    return np.concatenate([segment.vectors.matrix.astype(np.float32) for segment in reader.segments])


def recall(
    found: list[Found], vectors: NDArray[np.float32], queries: NDArray[np.float32], rows: NDArray[np.int64]
) -> float:
    """Of the ten best among `rows`; one as good as the tenth counts."""
    shares = []
    for mine, query in zip(found, queries, strict=True):
        tenth = np.sort(vectors[rows] @ query)[-10:][0]
        shares.append((np.sort(mine.scores)[-10:] >= tenth - 1e-6).mean())
    return float(np.mean(shares))


def test_scores_are_those_of_the_rows(reader: StoreReader, vectors: NDArray[np.float32]) -> None:
    queries = vectors[::97]
    for together in (
        DenseSearch(reader).search(queries, 10),
        [DenseSearch(reader).search(q[None], 10)[0] for q in queries],
    ):
        for mine, query in zip(together, queries, strict=True):
            np.testing.assert_array_equal(mine.scores, np.einsum("ij,j->i", vectors[mine.rows], query))
            assert len(np.unique(mine.rows)) == len(mine.rows)


def test_recall(reader: StoreReader, vectors: NDArray[np.float32]) -> None:
    queries = vectors[::29]
    found = DenseSearch(reader).search(queries, 10, nprobe=16)
    assert recall(found, vectors, queries, np.arange(len(vectors))) >= 0.95


WAYS = {"lists": (0, 0), "all scored": (10**6, 0), "codes of their own": (0, 10**6)}
"""Way of a filtered search -> (SCANNED_SURVIVORS, COMPACT_SURVIVORS)."""


@pytest.fixture(params=sorted(WAYS))
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    scanned, compact = WAYS[request.param]
    monkeypatch.setattr(filtered, "SCANNED_SURVIVORS", scanned)
    monkeypatch.setattr(filtered, "_CODES_PER_SCORE", 0)
    monkeypatch.setattr(filtered, "COMPACT_SURVIVORS", compact)
    return str(request.param)


def accept(mask: NDArray[np.bool_]) -> Accepted:
    return Accepted(np.packbits(mask, bitorder="little"), int(mask.sum()))


@pytest.mark.parametrize("share", [0.5, 0.1, 0.02])
def test_filtered_recall(reader: StoreReader, vectors: NDArray[np.float32], share: float, way: str) -> None:
    mask = np.random.default_rng(1).random(len(vectors)) < share
    accepted = accept(mask)
    queries = vectors[::61]
    found = DenseSearch(reader).search(queries, 10, nprobe=16, accepted=accepted)
    assert (accepted.codes is not None) == (
        way == "codes of their own" and reader.manifest.index.kind != "flat" and accepted.count > 100
    )
    assert all(mask[mine.rows].all() for mine in found)
    assert recall(found, vectors, queries, np.flatnonzero(mask)) >= 0.95


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_filtered_recall_far_from_what_survives(
    reader: StoreReader, vectors: NDArray[np.float32], share: float, way: str
) -> None:
    """One region survives, and queries come from elsewhere: their nearest lists hold few of it, or none."""
    products = vectors @ vectors[5]
    order = np.argsort(-products, kind="stable")
    mask = np.zeros(len(vectors), bool)
    mask[order[: int(share * len(vectors))]] = True
    queries = vectors[order[int(share * len(vectors)) :: 61]]
    found = DenseSearch(reader).search(queries, 10, nprobe=16, accepted=accept(mask))
    assert all(mask[mine.rows].all() for mine in found)
    assert recall(found, vectors, queries, np.flatnonzero(mask)) >= 0.95


def test_queries_together_find_what_each_finds_alone(
    reader: StoreReader, vectors: NDArray[np.float32], way: str
) -> None:
    mask = np.random.default_rng(2).random(len(vectors)) < 0.3
    queries = vectors[::97]
    search = DenseSearch(reader)
    together = search.search(queries, 10, accepted=accept(mask))
    alone_with = accept(mask)
    alone_with.asked = 10**6
    for query, mine in zip(queries, together, strict=True):
        other = search.search(query[None], 10, accepted=alone_with)[0]
        np.testing.assert_array_equal(np.sort(mine.scores)[-10:], np.sort(other.scores)[-10:])


def test_nothing_left_by_a_filter(reader: StoreReader, vectors: NDArray[np.float32]) -> None:
    accepted = Accepted(np.zeros((len(vectors) + 7) // 8, np.uint8), 0)
    assert [len(found.rows) for found in DenseSearch(reader).search(vectors[:3], 10, accepted=accepted)] == [0, 0, 0]


def test_rows_that_survive() -> None:
    mask = np.array([1, 0, 0, 1, 1, 0, 0, 0, 0, 1], bool)
    assert Accepted(np.packbits(mask, bitorder="little"), 4).rows.tolist() == [0, 3, 4, 9]


def test_survivors_of_segments_are_joined(reader: StoreReader) -> None:
    """As the shard joins them: rows of bitmaps that do not end at a byte."""
    survivors = [segment.filters.survivors(parse("starts_with(document_id, 'twin-1')")) for segment in reader.segments]
    assert all(part.passages % 8 for part in survivors[:-1]) or len(survivors) == 1
    names = [name for s in reader.segments for name in s.columns.names(np.arange(s.vectors.rows))]
    wanted = [row for row, name in enumerate(names) if name.document_id.startswith("twin-1")]
    starts = np.cumsum([0, *(part.passages for part in survivors)])
    rows = np.concatenate([part.rows + start for part, start in zip(survivors, starts, strict=False)])
    assert rows.tolist() == wanted


def test_codes_of_filters_asked_for_least_recently_are_let_go(
    reader: StoreReader, vectors: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filtered, "SCANNED_SURVIVORS", 0)
    monkeypatch.setattr(filtered, "_LEAST_KEPT_BYTES", 200_000)
    monkeypatch.setattr(filtered, "_KEPT_BYTES_PER_PASSAGE", 0)
    search = DenseSearch(reader)
    filters = [accept(np.random.default_rng(seed).random(len(vectors)) < 0.3) for seed in range(4)]  # 90 kB each
    for accepted in (filters[0], filters[1], filters[0], filters[2]):
        search.search(vectors[:20], 10, accepted=accepted)
    exact = reader.manifest.index.kind == "flat"
    assert [accepted.codes is not None for accepted in filters] == [not exact, False, not exact, False]
    again = search.search(vectors[:20], 10, accepted=filters[1])
    rows = np.flatnonzero(np.unpackbits(filters[1].bitmap, bitorder="little"))
    assert recall(again, vectors, vectors[:20], rows) >= 0.95


def test_codes_are_made_once_a_filter_is_asked_for_often(reader: StoreReader, vectors: NDArray[np.float32]) -> None:
    if reader.manifest.index.kind == "flat":
        pytest.skip("scanned whole, and exactly")
    search, accepted = DenseSearch(reader), accept(np.random.default_rng(5).random(len(vectors)) < 0.2)
    for asked in range(1, 20):
        search.search(vectors[:1], 10, accepted=accepted)
        assert (accepted.codes is not None) == (asked >= 16)
