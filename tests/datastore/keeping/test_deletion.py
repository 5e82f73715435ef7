"""Deleted documents are found by no search: as in a store that was built without them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from datastore.documents import PassageName
from datastore.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound
from datastore.info import describe_store
from datastore.keeping.deletion import delete
from datastore.store import manifest as manifests
from datastore.store.manifest import read_manifest
from datastore.store.reader import StoreReader
from datastore.tune import TuneOptions, tune
from datastore.verify import verify
from retriever.api import Mode, SearchRequest
from retriever.local_shard import LocalShard

if TYPE_CHECKING:
    from tests.datastore.keeping.conftest import Stores

DOCUMENTS = 700
KINDS = ("flat", "ivf-pq", "ivf-pq4", "ivf-rabitq")


@dataclass(frozen=True)
class Pair:
    """A store from which documents were deleted, and one that was built without them."""

    store: Path
    without: Path
    gone: frozenset[str]


GONE = [i for i in range(DOCUMENTS) if i % 3 == 0 or 200 <= i < 330]
LEFT = [i for i in range(DOCUMENTS) if i not in set(GONE)]


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, stores: Stores) -> Pair:
    folder = tmp_path_factory.mktemp(str(request.param))
    store = stores.build(folder / "whole", stores.records(range(DOCUMENTS)), request.param)
    without = stores.build(folder / "without", stores.records(LEFT), request.param)
    names = [f"d{i}" for i in GONE]
    first = delete(store, document_ids=names[:100])
    assert (first.generation, first.documents, first.unknown) == (2, 100, 0)
    second = delete(store, document_ids=[*names[50:], "no such document", "d0", "d0"])
    assert (second.generation, second.documents) == (3, len(names) - 100)
    # 50 of the first 100, d0 (asked for twice), and one that never was.
    assert (second.unknown, second.unknown_ids[0]) == (52, names[50])
    return Pair(store, without, frozenset(names))


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("where", [None, "year < 1950", "year = 1907"])
def test_dense_search_is_that_of_a_store_without_them(
    stores: Stores, pair: Pair, shards: int, where: str | None
) -> None:
    # Where everything is looked at, whatever the kind, order and scores are exact.
    seen = stores.answers(pair.store, "dense", shards, where=where, **stores.all_lists)
    assert seen == stores.answers(pair.without, "dense", where=where, **stores.all_lists)
    assert all(seen)


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
@pytest.mark.parametrize("where", [None, "year < 1950"])
def test_nothing_deleted_is_found(stores: Stores, pair: Pair, mode: Mode, where: str | None) -> None:
    with stores.opened(pair.store) as router:
        for _ in range(20 if where else 0):  # filters that are asked for often get codes of their own
            router.search(SearchRequest("amber", mode=mode, where=where))
        found = stores.answers_of(router, mode, where=where)
    names = {name for hits in found for name, _, _ in hits}
    assert names
    assert not names & pair.gone
    if where is None and mode == "dense":
        assert [len(hits) for hits in found] == [15] * len(stores.queries)
    diverse = stores.answers(pair.store, mode, shards=2, where=where, mmr_lambda=0.5, collapse_similarity=0.99)
    assert not {name for hits in diverse for name, _, _ in hits} & pair.gone


def test_bm25_over_shards_agrees_with_the_whole(stores: Stores, pair: Pair) -> None:
    whole, parts = stores.answers(pair.store, "bm25"), stores.answers(pair.store, "bm25", shards=3)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose([hit[2] for hit in one], [hit[2] for hit in other], rtol=1e-5)
        assert {hit[:2] for hit in one if hit[2] > one[-1][2] * 1.0001} <= {hit[:2] for hit in other}


def test_bm25_counts_deleted_passages_in_its_statistics(stores: Stores, pair: Pair) -> None:
    with stores.opened(pair.store) as router:
        (hit,) = router.search(SearchRequest("number121", k=5, mode="bm25")).hits
    with stores.opened(pair.without) as router:
        (other,) = router.search(SearchRequest("number121", k=5, mode="bm25")).hits
    # Of one passage in N, idf grows with N.
    assert hit.document_id == other.document_id == "d121"
    assert hit.score > other.score


def test_a_deleted_passage_is_not_found_by_its_name(stores: Stores, pair: Pair) -> None:
    with stores.opened(pair.store) as router:
        gone, left = PassageName("d0", 0), PassageName("d1", 0)
        assert router.get_passages([left])[0].document_id == "d1"
        with pytest.raises(NotFound, match="d0"):
            router.get_passages([gone])
    shard = LocalShard(pair.store)
    segment = read_manifest(pair.store).segments[0].segment_id
    assert shard.lookup([gone, left])[0] is None
    for ask in (shard.fetch, shard.fetch_vectors):
        with pytest.raises(NotFound, match="was deleted"):
            ask([(segment, 0)])
    shard.close()


def test_counts_are_of_what_is_left(stores: Stores, pair: Pair) -> None:
    info, without = describe_store(pair.store), describe_store(pair.without)
    assert (info.documents, info.passages) == (without.documents, without.passages) == (len(LEFT), info.passages)
    assert (info.deleted_documents, info.deleted_passages) == (
        len(GONE),
        read_manifest(pair.store).rows - info.passages,
    )
    with stores.opened(pair.store, 3) as router:
        coverage = router.search(SearchRequest("amber")).coverage
        assert coverage.passages_total == coverage.passages_searched == without.passages
    report = verify(pair.store)
    assert (report.problems, report.orphans) == ((), ())
    assert "deletions" in read_manifest(pair.store).required_features


def test_recall_is_measured_over_what_is_left(pair: Pair) -> None:
    if read_manifest(pair.store).index.kind == "flat":
        pytest.skip("a flat index has no curve")
    curve = tune(pair.store, TuneOptions(queries=60, ks=(10,))).operating_curve
    assert curve is not None
    assert curve.passages == curve.measured_passages == read_manifest(pair.without).passages
    assert curve.curves[0].points[-1].recall > 0.9


@pytest.fixture
def small(tmp_path: Path, stores: Stores) -> Path:
    return stores.build(tmp_path / "small", stores.records(range(60)))


def test_where_takes_whole_documents(small: Path) -> None:
    with pytest.raises(InvalidArgument, match="where ends too early"):
        delete(small, where="chunk =")
    done = delete(small, where="chunk_index = 2")  # documents of three passages at least
    reader = StoreReader(small)
    left = [name for s in reader.segments for name in s.columns.names(s.live.rows)]
    reader.close()
    assert left
    assert max(name.chunk_index for name in left) == 1
    assert done.documents + len({name.document_id for name in left}) == 60
    again = delete(small, where="chunk_index = 2")
    assert (again.documents, again.passages, again.generation) == (0, 0, done.generation)


def test_where_over_attributes(stores: Stores, small: Path) -> None:
    done = delete(small, where="year >= 1910 and year < 1930")
    assert done.documents == 20
    with stores.opened(small) as router:
        hits = router.search(SearchRequest("amber", k=100, mode="dense")).hits
    assert {int(hit.document_id[1:]) for hit in hits} == set(range(60)) - set(range(10, 30))


def test_everything_can_go(stores: Stores, small: Path) -> None:
    done = delete(small, where="document_id is not null")
    assert (done.documents, read_manifest(small).segments) == (60, ())
    assert list((small / "segments").iterdir()) == []
    with stores.opened(small) as router:
        for mode in ("dense", "bm25", "hybrid"):
            response = router.search(SearchRequest("amber", mode=mode))
            assert (response.hits, response.coverage.passages_total) == ((), 0)
    assert verify(small).problems == ()
    assert delete(small, document_ids=["d1"]).unknown == 1


def test_one_of_ids_and_filter(small: Path) -> None:
    for arguments in ({}, {"document_ids": ["d1"], "where": "year = 1900"}):
        with pytest.raises(InvalidArgument, match="ids and a filter"):
            delete(small, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [lambda b: bytes([b[0] ^ 4]) + b[1:], lambda b: b[:-1], lambda b: b + b"\0"])
def test_a_damaged_bitmap_hides_and_shows_nothing(small: Path, change: Callable[[bytes], bytes]) -> None:
    delete(small, document_ids=["d1", "d3"])
    (path,) = (small / "deletions").iterdir()
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataLoss, match=str(path)):
        StoreReader(small)
    assert str(path) in verify(small).problems[0]


def test_a_program_that_knows_no_deletions_refuses(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    delete(small, document_ids=["d1"])
    monkeypatch.setattr(manifests, "SUPPORTED_FEATURES", frozenset[str]())
    with pytest.raises(FailedPrecondition, match="deletions"):
        read_manifest(small)
