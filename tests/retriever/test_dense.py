"""Dense search of a shard, by codes and with filters, against brute force over the stored vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datastore.filters.language import parse
from datastore.store.reader import StoreReader
from retriever import dense
from retriever.dense import Accepted, DenseSearch, Found

KINDS = {
    "flat": {"kind": "flat"},
    "ivf-pq": {"kind": "ivf-pq", "nlist": 16, "pq_m": 64},
    "ivf-pq4": {"kind": "ivf-pq4", "nlist": 32},
    "ivf-pq4, one copy": {"kind": "ivf-pq4", "nlist": 32, "copies": 1},
    "ivf-rabitq": {"kind": "ivf-rabitq", "nlist": 32},
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


@pytest.mark.parametrize("scanned", [0, 100, 10**6])
@pytest.mark.parametrize("share", [0.5, 0.1, 0.02])
def test_filtered_recall(
    reader: StoreReader, vectors: NDArray[np.float32], share: float, scanned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the bitmap in the scan of lists, and with all survivors scored."""
    monkeypatch.setattr(dense, "_SCANNED_SURVIVORS", scanned)
    mask = np.random.default_rng(1).random(len(vectors)) < share
    accepted = Accepted(np.packbits(mask, bitorder="little"), int(mask.sum()))
    queries = vectors[::61]
    found = DenseSearch(reader).search(queries, 10, nprobe=16, accepted=accepted)
    assert all(mask[mine.rows].all() for mine in found)
    assert recall(found, vectors, queries, np.flatnonzero(mask)) >= 0.95


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
