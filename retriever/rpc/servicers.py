"""The methods of both services: each converts, asks the retriever or the shard, and converts back."""

# ruff: noqa: N802 - the methods have the names of the contract
from __future__ import annotations

import grpc

from retriever.api import Retriever
from retriever.rpc.gate import Gate
from retriever.rpc.messages import common, retrieval
from retriever.rpc.messages import shard as shards
from retriever.shard import Shard
from retriever.stubs.pergamon.retrieval.v1 import retrieval_pb2, retrieval_pb2_grpc
from retriever.stubs.pergamon.shard.v1 import shard_pb2, shard_pb2_grpc


class RetrievalServicer(retrieval_pb2_grpc.RetrievalServiceServicer):
    def __init__(self, retriever: Retriever, gate: Gate) -> None:
        self._retriever = retriever
        self._gate = gate

    def Search(
        self, request: retrieval_pb2.SearchRequest, context: grpc.ServicerContext
    ) -> retrieval_pb2.SearchResponse:
        def answer(timeout_s: float | None) -> retrieval_pb2.SearchResponse:
            search = retrieval.search_request_from_message(request, timeout_s)
            search.validate()
            return retrieval.search_response_to_message(self._retriever.search(search))

        return self._gate.run(context, answer)

    def GetPassages(
        self, request: retrieval_pb2.GetPassagesRequest, context: grpc.ServicerContext
    ) -> retrieval_pb2.GetPassagesResponse:
        def answer(_: float | None) -> retrieval_pb2.GetPassagesResponse:
            passages = self._retriever.get_passages(common.names_from_messages(request.names))
            return retrieval_pb2.GetPassagesResponse(passages=map(common.passage_to_message, passages))

        return self._gate.run(context, answer)

    def GetInfo(
        self, request: retrieval_pb2.GetInfoRequest, context: grpc.ServicerContext
    ) -> retrieval_pb2.GetInfoResponse:
        return self._gate.run(context, lambda _: retrieval.info_to_message(self._retriever.info()))


class ShardServicer(shard_pb2_grpc.ShardServiceServicer):
    def __init__(self, shard: Shard, gate: Gate) -> None:
        self._shard = shard
        self._gate = gate

    def Describe(self, request: shard_pb2.DescribeRequest, context: grpc.ServicerContext) -> shard_pb2.DescribeResponse:
        def answer(timeout_s: float | None) -> shard_pb2.DescribeResponse:
            return shards.shard_info_to_message(self._shard.describe(timeout_s, shards.generation_of(request)))

        return self._gate.run(context, answer)

    def Search(self, request: shard_pb2.SearchRequest, context: grpc.ServicerContext) -> shard_pb2.SearchResponse:
        def answer(timeout_s: float | None) -> shard_pb2.SearchResponse:
            result = self._shard.search(shards.shard_query_from_message(request, timeout_s))
            return shards.shard_result_to_message(result)

        return self._gate.run(context, answer)

    def GetBm25Statistics(
        self, request: shard_pb2.GetBm25StatisticsRequest, context: grpc.ServicerContext
    ) -> shard_pb2.GetBm25StatisticsResponse:
        def answer(timeout_s: float | None) -> shard_pb2.GetBm25StatisticsResponse:
            generation, statistics = self._shard.bm25_statistics(request.text, timeout_s, shards.generation_of(request))
            return shard_pb2.GetBm25StatisticsResponse(
                generation=generation, statistics=shards.statistics_to_message(statistics)
            )

        return self._gate.run(context, answer)

    def FetchPassages(
        self, request: shard_pb2.FetchPassagesRequest, context: grpc.ServicerContext
    ) -> shard_pb2.FetchPassagesResponse:
        def answer(timeout_s: float | None) -> shard_pb2.FetchPassagesResponse:
            rows = shards.rows_from_messages(request.rows)
            passages = self._shard.fetch(rows, timeout_s, shards.generation_of(request))
            return shard_pb2.FetchPassagesResponse(passages=map(common.passage_to_message, passages))

        return self._gate.run(context, answer)

    def FetchVectors(
        self, request: shard_pb2.FetchVectorsRequest, context: grpc.ServicerContext
    ) -> shard_pb2.FetchVectorsResponse:
        def answer(timeout_s: float | None) -> shard_pb2.FetchVectorsResponse:
            rows = shards.rows_from_messages(request.rows)
            vectors = self._shard.fetch_vectors(rows, timeout_s, shards.generation_of(request))
            return shards.vectors_to_message(vectors)

        return self._gate.run(context, answer)

    def LookupPassages(
        self, request: shard_pb2.LookupPassagesRequest, context: grpc.ServicerContext
    ) -> shard_pb2.LookupPassagesResponse:
        def answer(timeout_s: float | None) -> shard_pb2.LookupPassagesResponse:
            names = common.names_from_messages(request.names)
            passages = self._shard.lookup(names, timeout_s, shards.generation_of(request))
            return shard_pb2.LookupPassagesResponse(lookups=shards.lookups_to_messages(passages))

        return self._gate.run(context, answer)
