"""A `Retriever` that is somewhere else."""

from __future__ import annotations

from collections.abc import Sequence

from datastore.documents import Passage, PassageName
from retriever.api import DatastoreInfo, SearchRequest, SearchResponse
from retriever.rpc.channel import DEFAULT_MAX_MESSAGE_BYTES, Connection
from retriever.rpc.messages import common, retrieval
from retriever.stubs.pergamon.retrieval.v1 import retrieval_pb2, retrieval_pb2_grpc


class RemoteRetriever:
    """The `Retriever` served at `address` (HOST:PORT), by a router or by the server of a whole store.

    Connects when first asked. Raises what the server raised; Unavailable, naming the address, where none answers.
    """

    def __init__(self, address: str, *, max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES) -> None:
        self._connection = Connection(address, max_message_bytes)
        self._service = retrieval_pb2_grpc.RetrievalServiceStub(self._connection.channel)

    def search(self, request: SearchRequest) -> SearchResponse:
        request.validate()
        message = retrieval.search_request_to_message(request)
        answer = self._connection.call(self._service.Search, message, request.timeout_s)
        return retrieval.search_response_from_message(answer)

    def get_passages(self, names: Sequence[PassageName]) -> list[Passage]:
        message = retrieval_pb2.GetPassagesRequest(names=common.names_to_messages(names))
        answer = self._connection.call(self._service.GetPassages, message, None)
        return [common.passage_from_message(passage) for passage in answer.passages]

    def info(self) -> DatastoreInfo:
        answer = self._connection.call(self._service.GetInfo, retrieval_pb2.GetInfoRequest(), None)
        return retrieval.info_from_message(answer)

    def close(self) -> None:
        self._connection.close()
