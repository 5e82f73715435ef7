"""Diverse hits: the same over any number of shards, and the same as by brute force over what is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datastore.documents import PassageName
from datastore.errors import InvalidArgument, Unavailable
from datastore.store.reader import StoreReader
from retriever.api import Hit, Mode, SearchRequest, SearchResponse
from retriever.diversity import diversify
from retriever.local_shard import LocalShard
from retriever.router import Router
from retriever.shard import Shard

TWIN = "granite harbour lantern under a copper sky"
QUERIES = ["badens konor rutuvel", "granite lantern baden", f"{TWIN} baden mitus", "sky koden koden"]
MODES: tuple[Mode, ...] = ("hybrid", "dense", "bm25")
DIVERSE = [
    SearchRequest(k=10, mmr_lambda=0.5),
    SearchRequest(k=30, mmr_lambda=0.8),
    SearchRequest(k=10, collapse_similarity=0.95),
    SearchRequest(k=20, mmr_lambda=0.3, collapse_similarity=0.7),
]
Route = Callable[[Sequence[Shard]], Router]
Sharded = Callable[[Path, int], Router]


@pytest.fixture(scope="module")
def stored(flat_store: Path) -> dict[PassageName, NDArray[np.float16]]:
    reader = StoreReader(flat_store)
    vectors = {
        name: np.array(vector)
        for segment in reader.segments
        for name, vector in zip(
            segment.columns.names(np.arange(segment.vectors.rows)), segment.vectors.matrix, strict=True
        )
    }
    reader.close()
    return vectors


def plain(request: SearchRequest, k: int) -> SearchRequest:
    return replace(request, k=k, mmr_lambda=None, collapse_similarity=None)


def names(response: SearchResponse) -> list[PassageName]:
    return [hit.name for hit in response.hits]


@pytest.fixture
def brute_force(stored: dict[PassageName, NDArray[np.float16]]) -> Callable[[Router, SearchRequest], list[Hit]]:
    """What is chosen from a plain search by the vectors on disk."""

    def choose(router: Router, request: SearchRequest) -> list[Hit]:
        pool = router.search(plain(request, max(4 * request.k, 50))).hits
        chosen = diversify(
            np.stack([stored[hit.name] for hit in pool]).astype(np.float32),
            [hit.score for hit in pool],
            request.k,
            mmr_lambda=request.mmr_lambda,
            collapse_similarity=request.collapse_similarity,
        )
        return [replace(pool[c.place], rank=rank, duplicates=c.duplicates) for rank, c in enumerate(chosen, 1)]

    return choose


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("diverse", DIVERSE)
def test_hits_are_those_of_brute_force(
    flat_store: Path,
    sharded: Sharded,
    brute_force: Callable[[Router, SearchRequest], list[Hit]],
    mode: Mode,
    diverse: SearchRequest,
) -> None:
    changed = 0
    for count in (1, 2, 7):
        router = sharded(flat_store, count)
        for query in QUERIES:
            request = replace(diverse, query=query, mode=mode)
            response = router.search(request)
            assert list(response.hits) == brute_force(router, request)
            assert response.coverage.complete
            assert "diversify" in response.timings_ms
            changed += names(response) != names(router.search(plain(request, request.k)))
    assert changed


@pytest.mark.parametrize("diverse", DIVERSE)
@pytest.mark.parametrize("count", [2, 7])
def test_dense_of_many_shards_is_that_of_one(
    flat_store: Path, sharded: Sharded, diverse: SearchRequest, count: int
) -> None:
    for query in QUERIES:
        request = replace(diverse, query=query, mode="dense")
        one, many = (sharded(flat_store, n).search(request) for n in (1, count))
        assert many.hits == one.hits


@pytest.mark.parametrize("diverse", DIVERSE)
@pytest.mark.parametrize("mode", ["hybrid", "bm25"])
def test_bm25_and_hybrid_of_many_shards_are_those_of_one(
    flat_store: Path, sharded: Sharded, mode: Mode, diverse: SearchRequest
) -> None:
    """Wherever what they choose from is the same: BM25's last digits differ, which decides between near-ties."""
    same = 0
    for query in QUERIES:
        request = replace(diverse, query=query, mode=mode)
        for count in (2, 7):
            one, many = (sharded(flat_store, n) for n in (1, count))
            pools = [router.search(plain(request, max(4 * request.k, 50))) for router in (one, many)]
            near = pytest.approx([hit.score for hit in pools[0].hits], rel=0, abs=1e-5)
            if names(pools[0]) == names(pools[1]) and [hit.score for hit in pools[1].hits] == near:
                same += 1
                hits, wanted = many.search(request).hits, one.search(request).hits
                assert [(hit.name, hit.duplicates) for hit in hits] == [(hit.name, hit.duplicates) for hit in wanted]
                assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in wanted], rel=0, abs=1e-5)
    assert same


def test_duplicates_are_counted_and_give_way(flat_store: Path, sharded: Sharded) -> None:
    """Fifty candidates of a query for the 1,500 twins are twins, which are one."""
    router = sharded(flat_store, 2)
    (hit,) = router.search(SearchRequest(TWIN, 10, "dense", collapse_similarity=1.0)).hits
    assert (hit.name, hit.rank, hit.duplicates) == (PassageName("twin-0", 0), 1, 49)
    (hit,) = router.search(SearchRequest(TWIN, 300, "dense", collapse_similarity=1.0)).hits
    assert hit.duplicates == 999


def test_relevance_alone_gives_the_hits_of_a_plain_search(flat_store: Path, sharded: Sharded) -> None:
    """Of one for as many as there are candidates: the depth of fusion goes with k."""
    router = sharded(flat_store, 2)
    for mode in MODES:
        request = SearchRequest(QUERIES[0], 12, mode, mmr_lambda=1.0)
        assert router.search(request).hits == router.search(plain(request, 50)).hits[:12]


def test_nothing_found_is_nothing_diverse(flat_store: Path, sharded: Sharded) -> None:
    request = SearchRequest("unheard-of", mode="bm25", mmr_lambda=0.5, collapse_similarity=0.9)
    assert sharded(flat_store, 2).search(request).hits == ()


class Watched(LocalShard):
    """Counts the vectors asked for; may be gone by then."""

    asked = 0
    gone = False

    def fetch_vectors(
        self, rows: Sequence[tuple[str, int]], timeout_s: float | None = None, generation: int | None = None
    ) -> NDArray[np.float32]:
        self.asked += len(rows)
        if self.gone:
            raise Unavailable("the server went away", mend="start it again")
        return super().fetch_vectors(rows, timeout_s, generation)


def test_vectors_are_read_only_for_diverse_hits(flat_store: Path, route: Route) -> None:
    shard = Watched(flat_store)
    router = route([shard])
    router.search(SearchRequest("baden"))
    assert shard.asked == 0
    router.search(SearchRequest("baden", mmr_lambda=0.5))
    assert shard.asked == 50


@pytest.mark.parametrize("mode", MODES)
def test_a_shard_that_fails_between_search_and_vectors_lowers_coverage(
    flat_store: Path, route: Route, mode: Mode
) -> None:
    lasting, leaving = LocalShard(flat_store, (0, 2)), Watched(flat_store, (1, 2))
    leaving.gone = True
    router = route([lasting, leaving])
    request = SearchRequest(QUERIES[0], 10, mode, mmr_lambda=0.7, collapse_similarity=0.95)
    response = router.search(request)
    assert leaving.asked
    assert list(response.coverage.failures) == [leaving.name]
    assert response.coverage.passages_searched == lasting.describe().passages < response.coverage.passages_total
    assert len(response.hits) == 10
    assert None not in lasting.lookup(names(response))
    with pytest.raises(Unavailable, match="the server went away"):
        router.search(replace(request, require_complete=True))


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (SearchRequest("a", mmr_lambda=-0.1), "mmr_lambda"),
        (SearchRequest("a", mmr_lambda=float("nan")), "mmr_lambda"),
        (SearchRequest("a", collapse_similarity=1.1), "collapse_similarity"),
        (SearchRequest("a", k=1001, collapse_similarity=0.9), "k"),
    ],
)
def test_values_out_of_bounds(flat_store: Path, sharded: Sharded, request_: SearchRequest, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        sharded(flat_store, 1).search(request_)
    assert caught.value.field == field
    SearchRequest("a", k=1000, mmr_lambda=0.0, collapse_similarity=1.0).validate()
