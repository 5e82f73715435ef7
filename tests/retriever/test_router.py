"""Many shards answer as one does, and an answer says what it rests on."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from datastore.documents import PassageName
from datastore.encoders.hashing import HashingEncoder
from datastore.errors import InvalidArgument, NotFound
from datastore.store.manifest import read_manifest
from datastore.store.reader import shard_segments
from retriever.api import Fusion, Hit, Mode, SearchRequest, SearchResponse
from retriever.client import open_target
from retriever.fusion import fuse
from retriever.local_shard import LocalShard
from retriever.membership import Membership
from retriever.router import FUSION_DEPTH, Router
from retriever.shard import Candidate, Shard

TWIN = "granite harbour lantern under a copper sky"
GENERATED = ["badens konor rutuvel", "granite lantern", TWIN, f"{TWIN} baden mitus", "sky koden koden", "?!", "the of"]
TIE = 1e-5
Route = Callable[[Sequence[Shard]], Router]
Sharded = Callable[[Path, int], Router]


@pytest.fixture(params=["generated", "cacm", "scifact", "vaswani"], scope="module")
def case(
    request: pytest.FixtureRequest, collection: Callable[[str], Path], build_store: Callable[..., Path]
) -> tuple[Path, list[str]]:
    """A store and queries for it."""
    if request.param == "generated":
        return request.getfixturevalue("flat_store"), GENERATED
    folder = collection(request.param)
    with (folder / "queries.jsonl").open(encoding="utf-8") as lines:
        queries = [json.loads(line)["text"] for line, _ in zip(lines, range(15), strict=False)]
    if request.param == "vaswani":
        return build_store(folder, chunk={"words": 20}), queries
    return request.getfixturevalue(f"{request.param}_store"), queries


def names(response: SearchResponse) -> list[PassageName]:
    return [hit.name for hit in response.hits]


def scores(response: SearchResponse) -> list[float]:
    return [hit.score for hit in response.hits]


def contents(hit: Hit) -> tuple[object, ...]:
    return hit.title, hit.text, hit.source, hit.start, hit.end, hit.attributes


@pytest.mark.parametrize("count", [2, 7])
def test_dense_of_many_shards_is_that_of_one(case: tuple[Path, list[str]], sharded: Sharded, count: int) -> None:
    store, queries = case
    for query in queries:
        for k in (1, 10, 250):
            one, many = (sharded(store, n).search(SearchRequest(query, k, "dense")) for n in (1, count))
            assert many.hits == one.hits
            assert many.coverage.passages_searched == one.coverage.passages_searched == one.coverage.passages_total
            assert many.coverage.shards_ok == count


@pytest.mark.parametrize("count", [2, 7])
def test_bm25_of_many_shards_is_that_of_one(case: tuple[Path, list[str]], sharded: Sharded, count: int) -> None:
    store, queries = case
    for query in queries:
        one, many = (sharded(store, n).search(SearchRequest(query, 100, "bm25")) for n in (1, count))
        assert_same_up_to_ties(one, many)


@pytest.mark.parametrize("count", [2, 3])
def test_bm25_of_shards_that_hold_their_own_segments_alone(
    flat_store: Path, sharded: Sharded, route: Route, tmp_path: Path, count: int
) -> None:
    shards = []
    for index in range(count):
        part = tmp_path / str(index)
        shutil.copytree(flat_store, part)
        for record in shard_segments(read_manifest(part).segments, (index, count)):
            (part / "segments" / record.segment_id).rename(part / record.segment_id)
        shutil.rmtree(part / "segments")
        (part / "segments").mkdir()
        for mine in part.glob("0*"):
            mine.rename(part / "segments" / mine.name)
        shards.append(LocalShard(part, (index, count)))
    router = route(shards)
    assert not any(shard.describe().bm25_whole for shard in shards)
    for query in GENERATED:
        request = SearchRequest(query, 100, "bm25")
        assert_same_up_to_ties(sharded(flat_store, 1).search(request), router.search(request))


def assert_same_up_to_ties(one: SearchResponse, many: SearchResponse) -> None:
    """Scores within TIE at each rank and of each passage; where the passages at a rank differ, they tie."""
    assert len(one.hits) == len(many.hits)
    assert scores(many) == pytest.approx(scores(one), rel=0, abs=TIE)
    by_name = {hit.name: hit for hit in one.hits}
    for hit, other in zip(many.hits, one.hits, strict=True):
        if hit.name in by_name:
            assert hit.score == pytest.approx(by_name[hit.name].score, rel=0, abs=TIE)
            assert contents(hit) == contents(by_name[hit.name])
        else:  # it ties with the last
            assert hit.score == pytest.approx(one.hits[-1].score, rel=0, abs=TIE)
        if hit.name != other.name:
            assert hit.score == pytest.approx(other.score, rel=0, abs=TIE)


@pytest.mark.parametrize("fusion", [Fusion(), Fusion("convex", dense_weight=0.3)])
def test_hybrid_is_the_fusion_of_both_sides(case: tuple[Path, list[str]], sharded: Sharded, fusion: Fusion) -> None:
    store, queries = case
    router = sharded(store, 2)
    for query in queries:
        hybrid = router.search(SearchRequest(query, 20, fusion=fusion))
        dense, bm25 = (
            [Candidate(hit.document_id, hit.chunk_index, hit.score, "", 0) for hit in response.hits]
            for response in (router.search(SearchRequest(query, FUSION_DEPTH, mode)) for mode in ("dense", "bm25"))
        )
        wanted = fuse(dense, bm25, fusion)[:20]
        assert [(hit.name, hit.score, hit.dense_score, hit.bm25_score) for hit in hybrid.hits] == [
            (one.candidate.name, one.score, one.dense_score, one.bm25_score) for one in wanted
        ]
        assert hybrid.score_kind == fusion.method


@pytest.mark.parametrize("case", ["generated", "cacm", "scifact"], indirect=True)  # vaswani's passages tie too often
@pytest.mark.parametrize("fusion", [Fusion(), Fusion("convex", dense_weight=0.3)])
def test_hybrid_of_many_shards_is_that_of_one(case: tuple[Path, list[str]], sharded: Sharded, fusion: Fusion) -> None:
    store, queries = case
    without_ties = 0
    for query in queries:
        one, two, seven = (sharded(store, n).search(SearchRequest(query, 20, fusion=fusion)) for n in (1, 2, 7))
        fused_bm25 = scores(sharded(store, 1).search(SearchRequest(query, 101, "bm25")))
        if all(better - worse > TIE for better, worse in pairwise(fused_bm25)):
            without_ties += 1
            for many in (two, seven):
                assert names(many) == names(one)
                assert scores(many) == pytest.approx(scores(one), rel=0, abs=TIE)
                assert [hit.dense_score for hit in many.hits] == [hit.dense_score for hit in one.hits]
    assert without_ties > len(queries) / 4


def test_seven_shards_over_two_segments(two_segments: Path, sharded: Sharded) -> None:
    modes: tuple[Mode, ...] = ("dense", "bm25")
    for query in GENERATED:
        for mode in modes:
            one, seven = (sharded(two_segments, n).search(SearchRequest(query, 10, mode)) for n in (1, 7))
            assert_same_up_to_ties(one, seven)
            assert seven.coverage == replace(one.coverage, shards_total=7, shards_ok=7)


@pytest.mark.parametrize("count", [2, 7])
def test_recall_of_ivf_never_falls_with_shards(ivf_store: Path, flat_store: Path, sharded: Sharded, count: int) -> None:
    depth_matters = 0
    for query in [f"{a} {b}" for a in ("baden", "konor", "mitu", "rulax") for b in ("laxvel", "tus", "sky", "minor")]:
        request = SearchRequest(query, 10, "dense", candidate_depth=42, nprobe=4)
        exact = sharded(flat_store, 1).search(request)
        one, many = (sharded(ivf_store, n).search(request) for n in (1, count))
        assert len(one.hits) == len(many.hits) == 10
        # A superset of candidates, scored exactly: at no rank is the score lower, or above the true one.
        for hit, single, true in zip(many.hits, one.hits, exact.hits, strict=True):
            assert single.score <= hit.score <= true.score
        best = {hit.score for hit in exact.hits}
        assert sum(hit.score in best for hit in many.hits) >= sum(hit.score in best for hit in one.hits)
        depth_matters += scores(one) != scores(exact)
    assert depth_matters


def test_more_is_asked_than_there_is(two_segments: Path, sharded: Sharded) -> None:
    router = sharded(two_segments, 2)
    passages = router.info().passages
    everything = router.search(SearchRequest("granite harbour", 10_000, "dense"))
    assert len(set(names(everything))) == len(everything.hits) == passages
    assert [hit.rank for hit in everything.hits] == list(range(1, passages + 1))
    lexical = router.search(SearchRequest("granite harbour", 10_000, "bm25"))
    assert 1500 <= len(lexical.hits) < passages
    assert all("granite" in hit.text or "harbour" in f"{hit.title} {hit.text}" for hit in lexical.hits)


@pytest.mark.parametrize("query", ["the of and", "?! ...", "🙂"])
def test_a_query_without_terms(two_segments: Path, sharded: Sharded, query: str) -> None:
    router = sharded(two_segments, 2)
    assert router.search(SearchRequest(query, mode="bm25")).hits == ()
    hybrid = router.search(SearchRequest(query))
    assert len(hybrid.hits) == 10
    assert {hit.bm25_score for hit in hybrid.hits} == {None}
    assert names(hybrid) == names(router.search(SearchRequest(query, mode="dense")))


def test_a_given_vector_is_searched_in_place_of_the_query(flat_store: Path, sharded: Sharded) -> None:
    router = sharded(flat_store, 2)
    vector = HashingEncoder().encode_queries(["koden"])[0]
    given = router.search(SearchRequest(mode="dense", vector=vector))
    assert given.hits == router.search(SearchRequest("koden", mode="dense")).hits
    for bad in (vector[:-1], np.full(256, np.nan, np.float32)):
        with pytest.raises(InvalidArgument) as caught:
            router.search(SearchRequest(mode="dense", vector=bad))
        assert caught.value.field == "vector"


def test_passages_by_name_come_from_every_shard(flat_store: Path, sharded: Sharded) -> None:
    router = sharded(flat_store, 7)
    found = router.search(SearchRequest(TWIN, 200))
    passages = router.get_passages(names(found))
    assert [(p.name, p.text) for p in passages] == [(hit.name, hit.text) for hit in found.hits]
    with pytest.raises(NotFound, match="no passage 7 of document 'text-1'"):
        router.get_passages([names(found)[0], PassageName("text-1", 7)])


def test_sixteen_threads_get_the_answers_of_one(flat_store: Path, sharded: Sharded) -> None:
    kinds = (
        SearchRequest(k=5, mode="dense"),
        SearchRequest(k=50, mode="bm25"),
        SearchRequest(k=10),
        SearchRequest(k=10, fusion=Fusion("convex")),
    )
    requests = [replace(kind, query=query) for query in GENERATED for kind in kinds] * 4
    router = sharded(flat_store, 2)
    wanted = [router.search(request).hits for request in requests]
    with ThreadPoolExecutor(16) as threads:
        assert [response.hits for response in threads.map(router.search, requests)] == wanted


def test_the_encoder_is_opened_once(two_segments: Path) -> None:
    opened: list[float] = []

    def open_slowly() -> HashingEncoder:
        opened.append(time.monotonic())
        time.sleep(0.05)
        return HashingEncoder()

    router = Router(Membership([LocalShard(two_segments)]), open_slowly)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: router.search(SearchRequest("sky", 1, "dense")), range(8)))
    router.close()
    assert len(opened) == 1


def test_the_encoder_of_a_server_is_not_the_callers_to_choose() -> None:
    with pytest.raises(InvalidArgument, match="a server encodes queries itself"):
        open_target("grpc://127.0.0.1:7700", "hashing")


def test_a_query_that_is_no_text_is_refused_here_as_over_the_wire(two_segments: Path, sharded: Sharded) -> None:
    with pytest.raises(InvalidArgument, match=r"'\\udcff' at position 3"):
        sharded(two_segments, 2).search(SearchRequest("caf\udcff"))
