"""Messages of `pergamon.shard.v1` and the dataclasses of `retriever.shard`."""

from __future__ import annotations

from collections.abc import Sequence

from datastore.bm25.statistics import Bm25Statistics
from datastore.documents import Passage
from datastore.encoders.fingerprint import EncoderFingerprint
from retriever.api import MAX_CANDIDATE_DEPTH
from retriever.rpc.messages.common import (
    check_range,
    encodable,
    passage_from_message,
    passage_to_message,
    vector_from_bytes,
    vector_to_bytes,
)
from retriever.shard import Bm25Query, Candidate, DenseQuery, ShardInfo, ShardResult
from retriever.stubs.pergamon.shard.v1 import shard_pb2

_MAX_NPROBE = 1 << 20
_MAX_BM25_K1 = 100.0


def shard_info_to_message(info: ShardInfo) -> shard_pb2.DescribeResponse:
    encoder = info.encoder
    return shard_pb2.DescribeResponse(
        datastore_id=info.datastore_id,
        generation=info.generation,
        shard_index=info.shard_index,
        shard_count=info.shard_count,
        passages=info.passages,
        passages_total=info.passages_total,
        documents_total=info.documents_total,
        dimension=info.dimension,
        encoder=shard_pb2.EncoderFingerprint(
            name=encoder.name,
            revision=encoder.revision,
            dimension=encoder.dimension,
            pooling=encoder.pooling,
            normalized=encoder.normalized,
            query_prompt=encoder.query_prompt,
            passage_prompt=encoder.passage_prompt,
            max_tokens=encoder.max_tokens,
        ),
        index=info.index,
        bm25_k1=info.bm25_k1,
        bm25_b=info.bm25_b,
        bm25_whole=info.bm25_whole,
        segments=info.segments,
    )


def shard_info_from_message(message: shard_pb2.DescribeResponse) -> ShardInfo:
    encoder = message.encoder
    return ShardInfo(
        datastore_id=message.datastore_id,
        generation=message.generation,
        shard_index=message.shard_index,
        shard_count=message.shard_count,
        passages=message.passages,
        passages_total=message.passages_total,
        documents_total=message.documents_total,
        dimension=message.dimension,
        encoder=EncoderFingerprint(
            name=encoder.name,
            revision=encoder.revision,
            dimension=encoder.dimension,
            pooling=encoder.pooling,
            normalized=encoder.normalized,
            query_prompt=encoder.query_prompt,
            passage_prompt=encoder.passage_prompt,
            max_tokens=encoder.max_tokens,
        ),
        index=message.index,
        bm25_k1=message.bm25_k1,
        bm25_b=message.bm25_b,
        bm25_whole=message.bm25_whole,
        segments=tuple(message.segments),
    )


def dense_query_to_message(query: DenseQuery) -> shard_pb2.SearchDenseRequest:
    return shard_pb2.SearchDenseRequest(
        vector_float32_le=vector_to_bytes(query.vector, "vector"),
        k=query.k,
        candidate_depth=query.candidate_depth,
        nprobe=query.nprobe,
    )


def dense_query_from_message(message: shard_pb2.SearchDenseRequest, timeout_s: float | None) -> DenseQuery:
    return DenseQuery(
        vector=vector_from_bytes(message.vector_float32_le, "vector"),
        k=check_range(message.k, 1, MAX_CANDIDATE_DEPTH, "k"),
        candidate_depth=(
            check_range(message.candidate_depth, 1, MAX_CANDIDATE_DEPTH, "candidate_depth")
            if message.HasField("candidate_depth")
            else None
        ),
        nprobe=check_range(message.nprobe, 1, _MAX_NPROBE, "nprobe") if message.HasField("nprobe") else None,
        timeout_s=timeout_s,
    )


def shard_result_to_message(result: ShardResult) -> shard_pb2.ShardResult:
    return shard_pb2.ShardResult(
        generation=result.generation,
        passages_searched=result.passages_searched,
        candidates=[
            shard_pb2.Candidate(
                document_id=candidate.document_id,
                chunk_index=candidate.chunk_index,
                score=candidate.score,
                segment=candidate.segment,
                row=candidate.row,
            )
            for candidate in result.candidates
        ],
    )


def shard_result_from_message(message: shard_pb2.ShardResult) -> ShardResult:
    return ShardResult(
        generation=message.generation,
        passages_searched=message.passages_searched,
        candidates=tuple(
            Candidate(item.document_id, item.chunk_index, item.score, item.segment, item.row)
            for item in message.candidates
        ),
    )


def statistics_to_message(statistics: Bm25Statistics) -> shard_pb2.Bm25Statistics:
    return shard_pb2.Bm25Statistics(
        document_count=statistics.document_count,
        total_terms=statistics.total_terms,
        document_frequencies=statistics.document_frequencies,
    )


def statistics_from_message(message: shard_pb2.Bm25Statistics) -> Bm25Statistics:
    return Bm25Statistics(
        document_count=message.document_count,
        total_terms=message.total_terms,
        document_frequencies=dict(message.document_frequencies),
    )


def statistics_request_to_message(text: str) -> shard_pb2.GetBm25StatisticsRequest:
    return shard_pb2.GetBm25StatisticsRequest(text=encodable(text, "text"))


def bm25_query_to_message(query: Bm25Query) -> shard_pb2.SearchBm25Request:
    return shard_pb2.SearchBm25Request(
        text=encodable(query.text, "text"),
        k=query.k,
        statistics=None if query.statistics is None else statistics_to_message(query.statistics),
        k1=query.k1,
        b=query.b,
    )


def bm25_query_from_message(message: shard_pb2.SearchBm25Request, timeout_s: float | None) -> Bm25Query:
    return Bm25Query(
        text=message.text,
        k=check_range(message.k, 1, MAX_CANDIDATE_DEPTH, "k"),
        statistics=statistics_from_message(message.statistics) if message.HasField("statistics") else None,
        k1=check_range(message.k1, 0.0, _MAX_BM25_K1, "k1") if message.HasField("k1") else None,
        b=check_range(message.b, 0.0, 1.0, "b") if message.HasField("b") else None,
        timeout_s=timeout_s,
    )


def rows_to_messages(rows: Sequence[tuple[str, int]]) -> list[shard_pb2.PassageRow]:
    return [shard_pb2.PassageRow(segment=segment, row=row) for segment, row in rows]


def rows_from_messages(messages: Sequence[shard_pb2.PassageRow]) -> list[tuple[str, int]]:
    return [(message.segment, message.row) for message in messages]


def lookups_to_messages(passages: Sequence[Passage | None]) -> list[shard_pb2.PassageLookup]:
    return [
        shard_pb2.PassageLookup(passage=None if passage is None else passage_to_message(passage))
        for passage in passages
    ]


def lookups_from_messages(messages: Sequence[shard_pb2.PassageLookup]) -> list[Passage | None]:
    return [passage_from_message(message.passage) if message.HasField("passage") else None for message in messages]
