"""Messages of `pergamon.retrieval.v1` and the dataclasses of `retriever.api`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from datastore.errors import FailedPrecondition, InvalidArgument
from retriever.api import (
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
from retriever.rpc.messages.common import (
    attributes_from_message,
    encodable,
    passage_to_message,
    vector_from_bytes,
    vector_to_bytes,
)
from retriever.stubs.pergamon.retrieval.v1 import retrieval_pb2

_MODES: dict[Mode, retrieval_pb2.SearchMode.ValueType] = {
    "hybrid": retrieval_pb2.SEARCH_MODE_HYBRID,
    "dense": retrieval_pb2.SEARCH_MODE_DENSE,
    "bm25": retrieval_pb2.SEARCH_MODE_BM25,
}
_SCORE_KINDS: dict[ScoreKind, retrieval_pb2.ScoreKind.ValueType] = {
    "dot": retrieval_pb2.SCORE_KIND_DOT,
    "bm25": retrieval_pb2.SCORE_KIND_BM25,
    "rrf": retrieval_pb2.SCORE_KIND_RRF,
    "convex": retrieval_pb2.SCORE_KIND_CONVEX,
}
_FUSION_METHODS: dict[FusionMethod, retrieval_pb2.FusionMethod.ValueType] = {
    "rrf": retrieval_pb2.FUSION_METHOD_RRF,
    "convex": retrieval_pb2.FUSION_METHOD_CONVEX,
}
_MODE_NAMES = {number: mode for mode, number in _MODES.items()}
_SCORE_KIND_NAMES = {number: kind for kind, number in _SCORE_KINDS.items()}
_FUSION_METHOD_NAMES = {number: method for method, number in _FUSION_METHODS.items()}

NameT = TypeVar("NameT")
NumberT = TypeVar("NumberT", bound=int)


def search_request_to_message(request: SearchRequest) -> retrieval_pb2.SearchRequest:
    """Of a request within its bounds (`SearchRequest.validate`)."""
    return retrieval_pb2.SearchRequest(
        query=encodable(request.query, "query"),
        k=request.k,
        mode=_MODES[request.mode],
        vector_float32_le=None if request.vector is None else vector_to_bytes(request.vector, "vector"),
        candidate_depth=request.candidate_depth,
        nprobe=request.nprobe,
        recall=request.recall,
        bm25_k1=request.bm25_k1,
        bm25_b=request.bm25_b,
        fusion=retrieval_pb2.Fusion(
            method=_FUSION_METHODS[request.fusion.method],
            rrf_k=request.fusion.rrf_k,
            dense_weight=request.fusion.dense_weight,
        ),
        require_complete=request.require_complete,
        where=None if request.where is None else encodable(request.where, "where"),
        mmr_lambda=request.mmr_lambda,
        collapse_similarity=request.collapse_similarity,
    )


def search_request_from_message(message: retrieval_pb2.SearchRequest, timeout_s: float | None) -> SearchRequest:
    fusion = message.fusion
    return SearchRequest(
        query=message.query,
        k=message.k if message.HasField("k") else SearchRequest().k,
        mode=_requested(_MODE_NAMES, message.mode, SearchRequest().mode, "mode"),
        vector=vector_from_bytes(message.vector_float32_le, "vector")
        if message.HasField("vector_float32_le")
        else None,
        candidate_depth=message.candidate_depth if message.HasField("candidate_depth") else None,
        nprobe=message.nprobe if message.HasField("nprobe") else None,
        recall=message.recall if message.HasField("recall") else None,
        bm25_k1=message.bm25_k1 if message.HasField("bm25_k1") else None,
        bm25_b=message.bm25_b if message.HasField("bm25_b") else None,
        fusion=Fusion(
            method=_requested(_FUSION_METHOD_NAMES, fusion.method, Fusion().method, "fusion.method"),
            rrf_k=fusion.rrf_k if fusion.HasField("rrf_k") else Fusion().rrf_k,
            dense_weight=fusion.dense_weight if fusion.HasField("dense_weight") else Fusion().dense_weight,
        ),
        require_complete=message.require_complete,
        where=message.where if message.HasField("where") else None,
        mmr_lambda=message.mmr_lambda if message.HasField("mmr_lambda") else None,
        collapse_similarity=message.collapse_similarity if message.HasField("collapse_similarity") else None,
        timeout_s=timeout_s,
    )


def search_response_to_message(response: SearchResponse) -> retrieval_pb2.SearchResponse:
    coverage = response.coverage
    return retrieval_pb2.SearchResponse(
        query=response.query,
        mode=_MODES[response.mode],
        score_kind=_SCORE_KINDS[response.score_kind],
        generation=response.generation,
        hits=[
            retrieval_pb2.Hit(
                rank=hit.rank,
                score=hit.score,
                dense_score=hit.dense_score,
                bm25_score=hit.bm25_score,
                passage=passage_to_message(hit),
                duplicates=hit.duplicates,
            )
            for hit in response.hits
        ],
        coverage=retrieval_pb2.Coverage(
            shards_total=coverage.shards_total,
            shards_ok=coverage.shards_ok,
            passages_total=coverage.passages_total,
            passages_searched=coverage.passages_searched,
            failures=coverage.failures,
        ),
        timings_ms=response.timings_ms,
    )


def _hit_from_message(message: retrieval_pb2.Hit) -> Hit:
    passage = message.passage
    return Hit(
        rank=message.rank,
        document_id=passage.document_id,
        chunk_index=passage.chunk_index,
        score=message.score,
        dense_score=message.dense_score if message.HasField("dense_score") else None,
        bm25_score=message.bm25_score if message.HasField("bm25_score") else None,
        title=passage.title,
        text=passage.text,
        source=passage.source,
        start=passage.start,
        end=passage.end,
        attributes=attributes_from_message(passage.attributes),
        duplicates=message.duplicates,
    )


def search_response_from_message(message: retrieval_pb2.SearchResponse) -> SearchResponse:
    coverage = message.coverage
    return SearchResponse(
        query=message.query,
        mode=_answered(_MODE_NAMES, message.mode, "mode"),
        score_kind=_answered(_SCORE_KIND_NAMES, message.score_kind, "score_kind"),
        generation=message.generation,
        hits=tuple(_hit_from_message(hit) for hit in message.hits),
        coverage=Coverage(
            shards_total=coverage.shards_total,
            shards_ok=coverage.shards_ok,
            passages_total=coverage.passages_total,
            passages_searched=coverage.passages_searched,
            failures=dict(coverage.failures),
        ),
        timings_ms=dict(message.timings_ms),
    )


def info_to_message(info: DatastoreInfo) -> retrieval_pb2.GetInfoResponse:
    return retrieval_pb2.GetInfoResponse(
        generation=info.generation,
        passages=info.passages,
        documents=info.documents,
        dimension=info.dimension,
        encoder=info.encoder,
        index=info.index,
        shards_total=info.shards_total,
        refresh_error=info.refresh_error,
    )


def info_from_message(message: retrieval_pb2.GetInfoResponse) -> DatastoreInfo:
    return DatastoreInfo(
        generation=message.generation,
        passages=message.passages,
        documents=message.documents,
        dimension=message.dimension,
        encoder=message.encoder,
        index=message.index,
        shards_total=message.shards_total,
        refresh_error=message.refresh_error,
    )


def _requested(names: Mapping[NumberT, NameT], number: NumberT, default: NameT, field: str) -> NameT:
    """The name of an enum's number in a request; 0 (unspecified) is the default."""
    if number and number not in names:
        raise InvalidArgument(
            f"{field} has the number {number}; this server knows 0 to {max(names)}",
            mend="pass one of those",
            field=field,
        )
    return names.get(number, default)


def _answered(names: Mapping[NumberT, NameT], number: NumberT, field: str) -> NameT:
    """The name of an enum's number in a response."""
    if number not in names:
        raise FailedPrecondition(
            f"the server's answer has {field} number {number}; this client knows 1 to {max(names)}",
            mend="use the version of the server for the client, too",
            field=field,
        )
    return names[number]
