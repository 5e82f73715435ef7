"""A `Shard` that is somewhere else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datastore.bm25.statistics import Bm25Statistics
from datastore.documents import Passage, PassageName
from retriever.rpc.channel import DEFAULT_MAX_MESSAGE_BYTES, Connection
from retriever.rpc.messages import common, shard
from retriever.shard import ShardInfo, ShardQuery, ShardResult
from retriever.stubs.pergamon.shard.v1 import shard_pb2, shard_pb2_grpc


class RemoteShard:
    """The `Shard` served at `address` (HOST:PORT), which is also its name.

    Connects when first asked. Raises what the server raised; Unavailable, naming the address, where none answers.
    """

    def __init__(self, address: str, *, max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES) -> None:
        self._connection = Connection(address, max_message_bytes)
        self._service = shard_pb2_grpc.ShardServiceStub(self._connection.channel)

    @property
    def name(self) -> str:
        return self._connection.address

    def describe(self, timeout_s: float | None = None, generation: int | None = None) -> ShardInfo:
        message = shard_pb2.DescribeRequest(generation=generation)
        answer = self._connection.call(self._service.Describe, message, timeout_s)
        return shard.shard_info_from_message(answer)

    def search(self, query: ShardQuery) -> ShardResult:
        message = shard.shard_query_to_message(query)
        answer = self._connection.call(self._service.Search, message, query.timeout_s)
        return shard.shard_result_from_message(answer)

    def bm25_statistics(
        self, text: str, timeout_s: float | None = None, generation: int | None = None
    ) -> tuple[int, Bm25Statistics]:
        message = shard.statistics_request_to_message(text, generation)
        answer = self._connection.call(self._service.GetBm25Statistics, message, timeout_s)
        return answer.generation, shard.statistics_from_message(answer.statistics)

    def fetch(
        self, rows: Sequence[tuple[str, int]], timeout_s: float | None = None, generation: int | None = None
    ) -> list[Passage]:
        message = shard_pb2.FetchPassagesRequest(rows=shard.rows_to_messages(rows), generation=generation)
        answer = self._connection.call(self._service.FetchPassages, message, timeout_s)
        return [common.passage_from_message(passage) for passage in answer.passages]

    def fetch_vectors(
        self, rows: Sequence[tuple[str, int]], timeout_s: float | None = None, generation: int | None = None
    ) -> NDArray[np.float32]:
        message = shard_pb2.FetchVectorsRequest(rows=shard.rows_to_messages(rows), generation=generation)
        answer = self._connection.call(self._service.FetchVectors, message, timeout_s)
        return shard.vectors_from_message(answer, len(rows))

    def lookup(
        self, names: Sequence[PassageName], timeout_s: float | None = None, generation: int | None = None
    ) -> list[Passage | None]:
        message = shard_pb2.LookupPassagesRequest(names=common.names_to_messages(names), generation=generation)
        answer = self._connection.call(self._service.LookupPassages, message, timeout_s)
        return shard.lookups_from_messages(answer.lookups)

    def close(self) -> None:
        self._connection.close()
