"""What is remote answers as what is local does, and its absence is noticed at once."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from datastore.bm25.statistics import Bm25Statistics
from datastore.documents import PassageName
from datastore.errors import NotFound, Unavailable
from retriever.api import Retriever, SearchRequest
from retriever.rpc.remote_retriever import RemoteRetriever
from retriever.rpc.remote_shard import RemoteShard
from retriever.shard import Bm25Query, DenseQuery, Shard, ShardQuery

ROOT = Path(__file__).resolve().parents[3]


def test_remote_shard_answers_as_the_shard(serve: Callable[..., str], shard: Shard) -> None:
    address = serve(shard=shard)
    remote: Shard = RemoteShard(address)
    assert remote.name == address
    assert remote.describe() == shard.describe()
    vector = np.linspace(-1, 1, 16, dtype=np.float32)[::2]  # not contiguous
    dense = DenseQuery(vector, 20, 4)
    assert remote.search(ShardQuery(7, dense)) == shard.search(ShardQuery(7, dense))
    text = "river 雪 señal absent"
    assert remote.bm25_statistics(text) == shard.bm25_statistics(text)
    doubled = Bm25Statistics.merge([shard.bm25_statistics(text)[1]] * 2)
    for bm25 in [Bm25Query(text), Bm25Query(text, doubled), Bm25Query(text, None, 1.2, 0.75)]:
        for query in [ShardQuery(5, bm25=bm25), ShardQuery(5, dense, bm25)]:
            assert remote.search(query) == shard.search(query)
    rows = [("s-1", 29), ("s-1", 0), ("s-1", 29)]
    assert remote.fetch(rows) == shard.fetch(rows)
    assert remote.fetch([]) == []
    vectors = remote.fetch_vectors(rows)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, shard.fetch_vectors(rows))
    assert remote.fetch_vectors([]).shape == (0, 8)
    names = [PassageName("doc-3", 1), PassageName("doc-99", 0), PassageName("doc-0", 0)]
    found = remote.lookup(names)
    assert found == shard.lookup(names)
    assert [passage is None for passage in found] == [False, True, False]
    remote.close()


def test_remote_retriever_answers_as_the_retriever(serve: Callable[..., str], retriever: Retriever) -> None:
    remote: Retriever = RemoteRetriever(serve(retriever=retriever))
    for request in [
        SearchRequest("river 雪", k=4, mode="bm25"),
        SearchRequest("river", k=30, mode="dense"),
        SearchRequest(mode="dense", vector=np.arange(8, dtype=np.float32)),
    ]:
        assert remote.search(request) == retriever.search(request)
    assert remote.info() == retriever.info()
    names = [PassageName("doc-3", 1), PassageName("doc-3", 0)]
    assert remote.get_passages(names) == retriever.get_passages(names)
    missing = [names[0], PassageName("doc-99", 4)]
    with pytest.raises(NotFound) as here:
        retriever.get_passages(missing)
    with pytest.raises(NotFound) as there:
        remote.get_passages(missing)
    assert str(there.value) == str(here.value)
    remote.close()


def test_many_threads_share_one_client(serve: Callable[..., str], retriever: Retriever) -> None:
    remote = RemoteRetriever(serve(retriever=retriever))
    requests = [SearchRequest("river stone", k=k, mode="bm25") for k in range(1, 31)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(remote.search, requests)) == list(map(retriever.search, requests))


def test_nobody_listening_is_noticed_at_once() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        begin = time.monotonic()
        with pytest.raises(
            Unavailable,
            match=f"(?s)GetInfo: the server at {address} cannot be reached.*Connection refused.*check the address",
        ) as caught:
            RemoteRetriever(address).info()
        assert time.monotonic() - begin < 2
        assert "\n" not in str(caught.value)


def test_a_server_of_something_else_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as threads:

        def answer_as_http1() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        threads.submit(answer_as_http1)
        with pytest.raises(Unavailable, match=r"GetInfo: the server at 127\.0\.0\.1"):
            RemoteRetriever(f"127.0.0.1:{listener.getsockname()[1]}").info()


@pytest.fixture
def start_process() -> Iterator[Callable[[str], tuple[subprocess.Popen[str], str]]]:
    processes: list[subprocess.Popen[str]] = []

    def start(listen: str) -> tuple[subprocess.Popen[str], str]:
        script = Path(__file__).with_name("slow_server.py")
        command = [sys.executable, str(script), listen]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
        processes.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    yield start
    for process in processes:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_a_server_killed_in_a_call_is_unavailable_and_found_again(
    start_process: Callable[[str], tuple[subprocess.Popen[str], str]],
) -> None:
    process, address = start_process("127.0.0.1:0")
    remote = RemoteRetriever(address)
    assert remote.info().passages == 2
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(remote.search, SearchRequest("lamp"))
        assert process.stdout is not None
        assert process.stdout.readline() == "searching\n"
        process.kill()
        with pytest.raises(Unavailable, match=f"Search: the server at {address} cannot"):
            call.result(timeout=5)
    with pytest.raises(Unavailable, match=f"GetInfo: the server at {address} cannot be reached"):
        remote.info()

    start_process(address)
    begin = time.monotonic()
    while True:
        try:
            assert remote.info().passages == 2
            break
        except Unavailable:
            assert time.monotonic() - begin < 5, "the client did not find the server that came back"
            time.sleep(0.05)
