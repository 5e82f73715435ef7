"""Every dataclass that crosses the wire comes back equal, through serialized bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from datastore.bm25.statistics import Bm25Statistics
from datastore.documents import Passage, PassageName
from datastore.encoders.fingerprint import EncoderFingerprint
from datastore.errors import FailedPrecondition, InvalidArgument
from retriever.api import (
    MAX_CANDIDATE_DEPTH,
    MAX_DIVERSE_K,
    Coverage,
    DatastoreInfo,
    Fusion,
    FusionMethod,
    Hit,
    Mode,
    ScoreKind,
    SearchRequest,
    SearchResponse,
)
from retriever.rpc.messages import common, retrieval
from retriever.rpc.messages import shard as shards
from retriever.shard import Bm25Query, Candidate, DenseQuery, ShardInfo, ShardQuery, ShardResult
from retriever.stubs.pergamon.common.v1 import passage_pb2
from retriever.stubs.pergamon.retrieval.v1 import retrieval_pb2
from retriever.stubs.pergamon.shard.v1 import shard_pb2

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
uint32s = st.integers(0, 2**32 - 1)
uint64s = st.integers(0, 2**64 - 1)
doubles = st.floats(allow_nan=False)
attributes = st.dictionaries(texts, texts | st.integers(-(2**63), 2**63 - 1) | doubles | st.booleans(), max_size=4)
passages = st.builds(Passage, texts, uint32s, texts, texts, texts, uint64s, uint64s, attributes)
names = st.builds(PassageName, texts, uint32s)
statistics = st.builds(Bm25Statistics, uint64s, uint64s, st.dictionaries(texts, uint64s, max_size=5))
vectors = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20).map(
    lambda values: np.array(values, np.float32)
)
timeouts = st.none() | st.floats(0, 86_400)
search_requests = st.builds(
    SearchRequest,
    query=texts.map(lambda text: f"q{text}"),
    k=st.integers(1, MAX_DIVERSE_K),
    mode=st.sampled_from(get_args(Mode)),
    vector=st.none(),
    candidate_depth=st.none() | st.integers(1, MAX_CANDIDATE_DEPTH),
    nprobe=st.none() | st.integers(1, 1 << 20),
    recall=st.none() | st.floats(0.001, 0.999),
    bm25_k1=st.none() | st.floats(0, 100),
    bm25_b=st.none() | st.floats(0, 1),
    fusion=st.builds(Fusion, st.sampled_from(get_args(FusionMethod)), st.integers(1, 10**6), st.floats(0, 1)),
    where=st.none() | st.sampled_from(["year > 1990", "source = 'a' and not seen = true"]),
    require_complete=st.booleans(),
    mmr_lambda=st.none() | st.floats(0, 1),
    collapse_similarity=st.none() | st.floats(0, 1),
    timeout_s=timeouts,
).map(lambda request: request if request.recall is None else replace(request, nprobe=None, candidate_depth=None))
hits = st.builds(
    Hit,
    rank=uint32s,
    document_id=texts,
    chunk_index=uint32s,
    score=doubles,
    dense_score=st.none() | doubles,
    bm25_score=st.none() | doubles,
    title=texts,
    text=texts,
    source=texts,
    start=uint64s,
    end=uint64s,
    attributes=attributes,
    duplicates=uint32s,
)
search_responses = st.builds(
    SearchResponse,
    query=texts,
    mode=st.sampled_from(get_args(Mode)),
    score_kind=st.sampled_from(get_args(ScoreKind)),
    generation=uint64s,
    hits=st.lists(hits, max_size=4).map(tuple),
    coverage=st.builds(Coverage, uint32s, uint32s, uint64s, uint64s, st.dictionaries(texts, texts, max_size=3)),
    timings_ms=st.dictionaries(texts, doubles, max_size=3),
)
infos = st.builds(DatastoreInfo, uint64s, uint64s, uint64s, uint32s, texts, texts, uint32s)
fingerprints = st.builds(EncoderFingerprint, texts, texts, uint32s, texts, st.booleans(), texts, texts, uint32s)
shard_infos = st.builds(
    ShardInfo,
    datastore_id=texts,
    generation=uint64s,
    shard_index=uint32s,
    shard_count=uint32s,
    passages=uint64s,
    passages_total=uint64s,
    documents_total=uint64s,
    dimension=uint32s,
    encoder=fingerprints,
    index=texts,
    bm25_k1=doubles,
    bm25_b=doubles,
    bm25_whole=st.booleans(),
    segments=st.lists(texts, max_size=3).map(tuple),
)
candidates = st.builds(Candidate, texts, uint32s, doubles, texts, uint64s)
candidate_lists = st.lists(candidates, max_size=5).map(tuple)
shard_results = st.builds(
    ShardResult,
    texts,
    uint64s,
    uint32s,
    uint32s,
    uint64s,
    dense=candidate_lists,
    bm25=candidate_lists,
    passages=st.lists(passages, max_size=2).map(tuple),
)
depths = st.integers(1, MAX_CANDIDATE_DEPTH)
dense_options = st.tuples(st.none() | depths, st.none() | st.integers(1, 1 << 20), st.none() | st.floats(0.001, 0.999))
bm25_queries = st.builds(
    Bm25Query,
    texts,
    st.none() | statistics,
    st.none() | st.floats(0, 100),
    st.none() | st.floats(0, 1),
)


@given(passages)
def test_passage(passage: Passage) -> None:
    wire = common.passage_to_message(passage).SerializeToString()
    back = common.passage_from_message(passage_pb2.Passage.FromString(wire))
    assert back == passage
    assert {name: type(value) for name, value in back.attributes.items()} == {
        name: type(value) for name, value in passage.attributes.items()
    }


def test_integers_beyond_64_bits_become_text() -> None:
    passage = Passage("d", 0, "t", "", "", 0, 1, {"big": 2**63, "small": -(2**63) - 1})
    back = common.passage_from_message(common.passage_to_message(passage))
    assert back.attributes == {"big": "9223372036854775808", "small": "-9223372036854775809"}


@given(st.lists(names))
def test_names(wanted: list[PassageName]) -> None:
    wire = retrieval_pb2.GetPassagesRequest(names=common.names_to_messages(wanted)).SerializeToString()
    assert common.names_from_messages(retrieval_pb2.GetPassagesRequest.FromString(wire).names) == wanted


@pytest.mark.parametrize(
    ("name", "field"),
    [
        (PassageName("d", -1), "chunk_index"),
        (PassageName("d", 2**32), "chunk_index"),
        (PassageName("\ud800", 0), "document_id"),
    ],
)
def test_names_that_the_wire_cannot_carry(name: PassageName, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        common.names_to_messages([name])
    assert caught.value.field == field


@given(search_requests)
def test_search_request(request: SearchRequest) -> None:
    request.validate()
    wire = retrieval.search_request_to_message(request).SerializeToString()
    message = retrieval_pb2.SearchRequest.FromString(wire)
    assert retrieval.search_request_from_message(message, request.timeout_s) == request


@given(vectors)
def test_search_request_with_a_vector(vector: NDArray[np.float32]) -> None:
    wire = retrieval.search_request_to_message(SearchRequest(mode="dense", vector=vector)).SerializeToString()
    back = retrieval.search_request_from_message(retrieval_pb2.SearchRequest.FromString(wire), None).vector
    assert back is not None
    np.testing.assert_array_equal(back, vector)
    assert back.dtype == np.float32
    assert back.flags.writeable


def test_what_a_search_request_leaves_out_has_the_defaults() -> None:
    assert retrieval.search_request_from_message(retrieval_pb2.SearchRequest(query="a"), None) == SearchRequest("a")


def test_a_sent_zero_is_not_a_default() -> None:
    message = retrieval_pb2.SearchRequest(query="a", k=0)
    assert retrieval.search_request_from_message(message, None).k == 0


@given(search_responses)
def test_search_response(response: SearchResponse) -> None:
    wire = retrieval.search_response_to_message(response).SerializeToString()
    assert retrieval.search_response_from_message(retrieval_pb2.SearchResponse.FromString(wire)) == response


@given(infos)
def test_info(info: DatastoreInfo) -> None:
    wire = retrieval.info_to_message(info).SerializeToString()
    assert retrieval.info_from_message(retrieval_pb2.GetInfoResponse.FromString(wire)) == info


@given(shard_infos)
def test_shard_info(info: ShardInfo) -> None:
    wire = shards.shard_info_to_message(info).SerializeToString()
    assert shards.shard_info_from_message(shard_pb2.DescribeResponse.FromString(wire)) == info


@given(vectors, dense_options, st.none() | bm25_queries, depths, timeouts)
def test_shard_query(
    vector: NDArray[np.float32],
    options: tuple[int | None, int | None, float | None],
    bm25: Bm25Query | None,
    k: int,
    timeout_s: float | None,
) -> None:
    where = None if k % 2 else f"a = {k}"
    query = ShardQuery(k, DenseQuery(vector, *options), bm25, where, k // 2, timeout_s)
    wire = shards.shard_query_to_message(query).SerializeToString()
    back = shards.shard_query_from_message(shard_pb2.SearchRequest.FromString(wire), timeout_s)
    assert back.dense is not None
    np.testing.assert_array_equal(back.dense.vector, vector)
    assert (back.dense.candidate_depth, back.dense.nprobe, back.dense.recall) == options
    assert (back.k, back.bm25, back.where, back.passages, back.timeout_s) == (k, bm25, where, k // 2, timeout_s)


@given(bm25_queries)
def test_shard_query_of_bm25_alone(bm25: Bm25Query) -> None:
    wire = shards.shard_query_to_message(ShardQuery(3, bm25=bm25)).SerializeToString()
    assert shards.shard_query_from_message(shard_pb2.SearchRequest.FromString(wire), None) == ShardQuery(3, bm25=bm25)


@given(shard_results)
def test_shard_result(result: ShardResult) -> None:
    wire = shards.shard_result_to_message(result).SerializeToString()
    assert shards.shard_result_from_message(shard_pb2.SearchResponse.FromString(wire)) == result


@given(statistics)
def test_statistics(parts: Bm25Statistics) -> None:
    wire = shards.statistics_to_message(parts).SerializeToString()
    assert shards.statistics_from_message(shard_pb2.Bm25Statistics.FromString(wire)) == parts


@given(st.lists(st.none() | passages, max_size=4))
def test_lookups(found: list[Passage | None]) -> None:
    wire = shard_pb2.LookupPassagesResponse(lookups=shards.lookups_to_messages(found)).SerializeToString()
    assert shards.lookups_from_messages(shard_pb2.LookupPassagesResponse.FromString(wire).lookups) == found


@given(st.lists(st.tuples(texts, uint64s), max_size=4))
def test_rows(rows: list[tuple[str, int]]) -> None:
    wire = shard_pb2.FetchPassagesRequest(rows=shards.rows_to_messages(rows)).SerializeToString()
    assert shards.rows_from_messages(shard_pb2.FetchPassagesRequest.FromString(wire).rows) == rows


@given(st.integers(0, 4), st.integers(1, 5), st.data())
def test_vectors(count: int, dimension: int, data: st.DataObject) -> None:
    stored = st.lists(
        st.floats(width=16, allow_nan=False, allow_infinity=False), min_size=dimension, max_size=dimension
    )
    rows = data.draw(st.lists(stored, min_size=count, max_size=count))
    vectors = np.array(rows, np.float32).reshape(count, dimension)
    wire = shards.vectors_to_message(vectors).SerializeToString()
    back = shards.vectors_from_message(shard_pb2.FetchVectorsResponse.FromString(wire), count)
    np.testing.assert_array_equal(back, vectors)
    assert back.dtype == np.float32
    assert back.flags.writeable


@pytest.mark.parametrize(("size", "dimension"), [(0, 0), (10, 2), (14, 2), (12, 3)])
def test_vectors_that_do_not_fit(size: int, dimension: int) -> None:
    message = shard_pb2.FetchVectorsResponse(dimension=dimension, vectors_float16_le=b"\0" * size)
    with pytest.raises(FailedPrecondition, match=f"{size} bytes; 3 vectors of {dimension} float16 need"):
        shards.vectors_from_message(message, 3)


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (b"", "0 bytes"),
        (b"\0" * 6, "6 bytes"),
        (np.array([1, np.nan], "<f4").tobytes(), "nan at position 1"),
        (np.array([np.inf], "<f4").tobytes(), "inf at position 0"),
    ],
)
def test_bad_vector_bytes(data: bytes, seen: str) -> None:
    with pytest.raises(InvalidArgument, match=seen) as caught:
        retrieval.search_request_from_message(retrieval_pb2.SearchRequest(vector_float32_le=data), None)
    assert caught.value.field == "vector"
    request = shard_pb2.SearchRequest(k=1, dense=shard_pb2.DenseQuery(vector_float32_le=data))
    with pytest.raises(InvalidArgument, match=seen):
        shards.shard_query_from_message(request, None)


@pytest.mark.parametrize("shape", [(0,), (2, 3), ()])
def test_bad_vector_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument, match=r"wanted \[dimension\]"):
        shards.shard_query_to_message(ShardQuery(1, DenseQuery(np.ones(shape, np.float32))))


_VECTOR = b"\0" * 4


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (shard_pb2.SearchRequest(k=1), "dense"),
        (shard_pb2.SearchRequest(dense=shard_pb2.DenseQuery(vector_float32_le=_VECTOR)), "k"),
        (shard_pb2.SearchRequest(k=2**32 - 1, dense=shard_pb2.DenseQuery(vector_float32_le=_VECTOR)), "k"),
        (
            shard_pb2.SearchRequest(k=1, dense=shard_pb2.DenseQuery(vector_float32_le=_VECTOR, candidate_depth=0)),
            "candidate_depth",
        ),
        (shard_pb2.SearchRequest(k=1, dense=shard_pb2.DenseQuery(vector_float32_le=_VECTOR, nprobe=0)), "nprobe"),
        (shard_pb2.SearchRequest(k=1, dense=shard_pb2.DenseQuery(vector_float32_le=_VECTOR, recall=1.0)), "recall"),
        (shard_pb2.SearchRequest(bm25=shard_pb2.Bm25Query(text="a")), "k"),
        (shard_pb2.SearchRequest(k=1, bm25=shard_pb2.Bm25Query(text="a", k1=float("nan"))), "k1"),
        (shard_pb2.SearchRequest(k=1, bm25=shard_pb2.Bm25Query(text="a", b=1.5)), "b"),
    ],
)
def test_shard_requests_out_of_bounds(message: shard_pb2.SearchRequest, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        shards.shard_query_from_message(message, None)
    assert caught.value.field == field


def test_columns_that_do_not_fit_together() -> None:
    good = {"document_ids": ["a"], "chunk_indexes": [0], "scores": [1.0], "segment_positions": [0], "rows": [3]}
    for broken in [{**good, "rows": []}, {**good, "segment_positions": [1]}, {**good, "scores": [1.0, 2.0]}]:
        message = shard_pb2.SearchResponse(dense=shard_pb2.Candidates(segments=["s"], **broken))  # type: ignore[arg-type]
        with pytest.raises(FailedPrecondition, match="do not fit together"):
            shards.shard_result_from_message(message)


def test_enum_numbers_of_another_version() -> None:
    unknown = retrieval_pb2.SearchRequest.FromString(b"\x18\x09")  # field 3 (mode) = 9
    with pytest.raises(InvalidArgument, match="mode has the number 9"):
        retrieval.search_request_from_message(unknown, None)
    with pytest.raises(FailedPrecondition, match="score_kind number 0"):
        retrieval.search_response_from_message(retrieval_pb2.SearchResponse(mode=retrieval_pb2.SEARCH_MODE_DENSE))


def test_text_that_is_not_unicode() -> None:
    with pytest.raises(InvalidArgument, match="position 2") as caught:
        retrieval.search_request_to_message(SearchRequest("ab\udce9"))
    assert caught.value.field == "query"
