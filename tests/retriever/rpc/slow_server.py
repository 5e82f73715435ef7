"""Serves, as a process of its own, a retriever whose searches take a minute: `slow_server.py HOST:PORT`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from datastore.documents import Passage, PassageName
from retriever.api import DatastoreInfo, SearchRequest, SearchResponse
from retriever.rpc.server import RpcServer


class SlowRetriever:
    def search(self, request: SearchRequest) -> SearchResponse:
        print("searching", flush=True)  # noqa: T201
        time.sleep(60)
        raise AssertionError(f"{request} was awaited for a minute")

    def get_passages(self, names: Sequence[PassageName]) -> list[Passage]:
        return [Passage(name.document_id, name.chunk_index, "text", "", "", 0, 4) for name in names]

    def info(self) -> DatastoreInfo:
        return DatastoreInfo(1, 2, 2, 8, "tiny", "flat", 1)

    def close(self) -> None:
        pass


if __name__ == "__main__":
    server = RpcServer(sys.argv[1], retriever=SlowRetriever())
    print(server.start(), flush=True)  # noqa: T201
    server.wait()
