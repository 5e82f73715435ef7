"""Messages of `pergamon.shard.v1` and the dataclasses of `retriever.shard`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datastore.ann.operating_curve import check_recall
from datastore.bm25.statistics import Bm25Statistics
from datastore.documents import Passage
from datastore.encoders.fingerprint import EncoderFingerprint
from datastore.errors import FailedPrecondition, InvalidArgument
from retriever.api import MAX_CANDIDATE_DEPTH
from retriever.rpc.messages.common import (
    check_range,
    encodable,
    passage_from_message,
    passage_to_message,
    vector_from_bytes,
    vector_to_bytes,
)
from retriever.shard import Bm25Query, Candidate, DenseQuery, ShardInfo, ShardQuery, ShardResult
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
        generations=info.generations,
        refresh_error=info.refresh_error,
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
        generations=tuple(message.generations),
        refresh_error=message.refresh_error,
    )


def shard_query_to_message(query: ShardQuery) -> shard_pb2.SearchRequest:
    return shard_pb2.SearchRequest(
        k=query.k,
        dense=None if query.dense is None else _dense_to_message(query.dense),
        bm25=None if query.bm25 is None else _bm25_to_message(query.bm25),
        where=None if query.where is None else encodable(query.where, "where"),
        passages=query.passages,
        generation=query.generation,
    )


def shard_query_from_message(message: shard_pb2.SearchRequest, timeout_s: float | None) -> ShardQuery:
    if not message.HasField("dense") and not message.HasField("bm25"):
        raise InvalidArgument(
            "the query has neither a dense nor a BM25 side", mend="set dense, bm25 or both", field="dense"
        )
    return ShardQuery(
        k=check_range(message.k, 1, MAX_CANDIDATE_DEPTH, "k"),
        dense=_dense_from_message(message.dense) if message.HasField("dense") else None,
        bm25=_bm25_from_message(message.bm25) if message.HasField("bm25") else None,
        where=message.where if message.HasField("where") else None,
        passages=message.passages,
        generation=generation_of(message),
        timeout_s=timeout_s,
    )


def _dense_to_message(query: DenseQuery) -> shard_pb2.DenseQuery:
    return shard_pb2.DenseQuery(
        vector_float32_le=vector_to_bytes(query.vector, "vector"),
        candidate_depth=query.candidate_depth,
        nprobe=query.nprobe,
        recall=query.recall,
    )


def _dense_from_message(message: shard_pb2.DenseQuery) -> DenseQuery:
    return DenseQuery(
        vector=vector_from_bytes(message.vector_float32_le, "vector"),
        candidate_depth=(
            check_range(message.candidate_depth, 1, MAX_CANDIDATE_DEPTH, "candidate_depth")
            if message.HasField("candidate_depth")
            else None
        ),
        nprobe=check_range(message.nprobe, 1, _MAX_NPROBE, "nprobe") if message.HasField("nprobe") else None,
        recall=check_recall(message.recall) if message.HasField("recall") else None,
    )


def _bm25_to_message(query: Bm25Query) -> shard_pb2.Bm25Query:
    return shard_pb2.Bm25Query(
        text=encodable(query.text, "text"),
        statistics=None if query.statistics is None else statistics_to_message(query.statistics),
        k1=query.k1,
        b=query.b,
    )


def _bm25_from_message(message: shard_pb2.Bm25Query) -> Bm25Query:
    return Bm25Query(
        text=message.text,
        statistics=statistics_from_message(message.statistics) if message.HasField("statistics") else None,
        k1=check_range(message.k1, 0.0, _MAX_BM25_K1, "k1") if message.HasField("k1") else None,
        b=check_range(message.b, 0.0, 1.0, "b") if message.HasField("b") else None,
    )


def shard_result_to_message(result: ShardResult) -> shard_pb2.SearchResponse:
    return shard_pb2.SearchResponse(
        datastore_id=result.datastore_id,
        generation=result.generation,
        shard_index=result.shard_index,
        shard_count=result.shard_count,
        passages_searched=result.passages_searched,
        dense=_candidates_to_message(result.dense),
        bm25=_candidates_to_message(result.bm25),
        passages=map(passage_to_message, result.passages),
        passages_total=result.passages_total,
        generations=result.generations,
    )


def shard_result_from_message(message: shard_pb2.SearchResponse) -> ShardResult:
    return ShardResult(
        datastore_id=message.datastore_id,
        generation=message.generation,
        shard_index=message.shard_index,
        shard_count=message.shard_count,
        passages_searched=message.passages_searched,
        dense=_candidates_from_message(message.dense),
        bm25=_candidates_from_message(message.bm25),
        passages=tuple(map(passage_from_message, message.passages)),
        passages_total=message.passages_total,
        generations=tuple(message.generations),
    )


def _candidates_to_message(candidates: Sequence[Candidate]) -> shard_pb2.Candidates | None:
    if not candidates:
        return None
    document_ids, chunk_indexes, scores, segments, rows = zip(*candidates, strict=True)
    positions = {segment: position for position, segment in enumerate(dict.fromkeys(segments))}
    return shard_pb2.Candidates(
        document_ids=document_ids,
        chunk_indexes=chunk_indexes,
        scores=scores,
        segment_positions=[positions[segment] for segment in segments],
        rows=rows,
        segments=positions,
    )


def _candidates_from_message(message: shard_pb2.Candidates) -> tuple[Candidate, ...]:
    segments = list(message.segments)
    try:
        holders = [segments[position] for position in message.segment_positions]
        columns = (message.document_ids, message.chunk_indexes, message.scores, holders, message.rows)
        return tuple(map(Candidate._make, zip(*columns, strict=True)))
    except (IndexError, ValueError):
        raise FailedPrecondition(
            f"a shard answered with {len(message.document_ids)} identifiers, {len(message.chunk_indexes)} chunks, "
            f"{len(message.scores)} scores, {len(message.rows)} rows and {len(message.segment_positions)} positions in "
            f"{len(segments)} segments, which do not fit together",
            mend="run the same version of pergamon on every machine",
        ) from None


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


def statistics_request_to_message(text: str, generation: int | None) -> shard_pb2.GetBm25StatisticsRequest:
    return shard_pb2.GetBm25StatisticsRequest(text=encodable(text, "text"), generation=generation)


def generation_of(
    message: shard_pb2.DescribeRequest
    | shard_pb2.SearchRequest
    | shard_pb2.GetBm25StatisticsRequest
    | shard_pb2.FetchPassagesRequest
    | shard_pb2.FetchVectorsRequest
    | shard_pb2.LookupPassagesRequest,
) -> int | None:
    """The generation that a request asks for, None for the newest."""
    return message.generation if message.HasField("generation") else None


def rows_to_messages(rows: Sequence[tuple[str, int]]) -> list[shard_pb2.PassageRow]:
    return [shard_pb2.PassageRow(segment=segment, row=row) for segment, row in rows]


def rows_from_messages(messages: Sequence[shard_pb2.PassageRow]) -> list[tuple[str, int]]:
    return [(message.segment, message.row) for message in messages]


def vectors_to_message(vectors: NDArray[np.float32]) -> shard_pb2.FetchVectorsResponse:
    """Of stored vectors, [n, dimension]: float16 by their origin, so that nothing is lost."""
    return shard_pb2.FetchVectorsResponse(
        dimension=vectors.shape[1], vectors_float16_le=vectors.astype("<f2").tobytes()
    )


def vectors_from_message(message: shard_pb2.FetchVectorsResponse, count: int) -> NDArray[np.float32]:
    """float32 [count, dimension]."""
    dimension, size = message.dimension, len(message.vectors_float16_le)
    if size != 2 * count * dimension or (count and not dimension):
        raise FailedPrecondition(
            f"a shard answered with {size} bytes; {count} vectors of {dimension} float16 need {2 * count * dimension}",
            mend="run the same version of pergamon on every machine",
        )
    return np.frombuffer(message.vectors_float16_le, "<f2").reshape(count, dimension).astype(np.float32)


def lookups_to_messages(passages: Sequence[Passage | None]) -> list[shard_pb2.PassageLookup]:
    return [
        shard_pb2.PassageLookup(passage=None if passage is None else passage_to_message(passage))
        for passage in passages
    ]


def lookups_from_messages(messages: Sequence[shard_pb2.PassageLookup]) -> list[Passage | None]:
    return [passage_from_message(message.passage) if message.HasField("passage") else None for message in messages]
