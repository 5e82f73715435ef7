"""The service as a user runs it: `pergamon serve` and `pergamon route`, each a process of its own."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from datastore.documents import PassageName
from datastore.errors import NotFound, Unavailable
from retriever.api import Retriever, SearchRequest
from retriever.client import open_target
from retriever.router import Router

ROOT = Path(__file__).resolve().parents[2]
TWIN = "granite harbour lantern under a copper sky"
QUERIES = ["badens konor rutuvel", TWIN, "sky koden koden", "?!", "🙂 雪"]
Eventually = Callable[[Callable[[], bool]], None]


class Servers(Protocol):
    processes: dict[str, subprocess.Popen[str]]

    def start(self, *commands: Sequence[str | Path], listen: str = ...) -> list[str]: ...

    def spawn(self, *arguments: str | Path) -> subprocess.Popen[str]: ...

    def shards(self, store: Path, count: int) -> list[str]: ...

    def errors(self, process: subprocess.Popen[str]) -> str: ...

    def kill(self, address: str) -> None: ...


@pytest.fixture
def ask() -> Iterator[Callable[[str], Retriever]]:
    """`ask(address)`: a client of the server there."""
    clients: list[Retriever] = []

    def connect(address: str) -> Retriever:
        clients.append(open_target(f"grpc://{address}"))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def free_addresses() -> list[str]:
    """Two addresses where nobody listens."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{unused.getsockname()[1]}" for unused in (one, two)]


def health(address: str, service: str = "") -> str:
    """The answer of the standard health service, or the status of the failure to ask."""
    with grpc.insecure_channel(address) as channel:
        try:
            request = health_pb2.HealthCheckRequest(service=service)
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=2)
        except grpc.RpcError as failure:
            return str(failure.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


@pytest.mark.parametrize("count", [2, 7])
def test_answers_over_the_wire_are_those_in_process(
    servers: Servers, ask: Callable[[str], Retriever], two_segments: Path, sharded: Callable[..., Router], count: int
) -> None:
    shards = servers.shards(two_segments, count)
    (address,) = servers.start(["route", "--shards", ",".join(shards)])
    remote, local = ask(address), sharded(two_segments, count)
    for query in QUERIES:
        for request in (
            SearchRequest(query, 30, "dense", require_complete=True),
            SearchRequest(query, 30, "bm25", require_complete=True),
            SearchRequest(query, 30, require_complete=True),
            SearchRequest(query, 10, mmr_lambda=0.5, collapse_similarity=0.9, require_complete=True),
        ):
            there, here = remote.search(request), local.search(request)
            assert there.hits == here.hits
            assert there.coverage == here.coverage
            assert (there.query, there.mode, there.score_kind) == (query, request.mode, here.score_kind)
            assert set(there.timings_ms) == set(here.timings_ms)
    assert remote.info() == local.info()
    wanted = [PassageName("twin-3", 0), PassageName("text-8", 0)]
    assert remote.get_passages(wanted) == local.get_passages(wanted)
    with pytest.raises(NotFound, match="no passage 5 of document 'twin-3'"):
        remote.get_passages([PassageName("twin-3", 5)])
    assert [health(shard) for shard in shards] == ["SERVING"] * count
    assert health(address, "pergamon.retrieval.v1.RetrievalService") == "SERVING"
    assert health(shards[0], "pergamon.shard.v1.ShardService") == "SERVING"
    assert health(address, "pergamon.shard.v1.ShardService") == "NOT_FOUND"


def test_a_single_server_needs_no_router(
    servers: Servers, ask: Callable[[str], Retriever], two_segments: Path, sharded: Callable[..., Router]
) -> None:
    (address,) = servers.start(["serve", two_segments])
    request = SearchRequest(TWIN, 30)
    assert ask(address).search(request).hits == sharded(two_segments, 1).search(request).hits


def test_health_turns_positive_when_queries_can_be_answered_and_sigterm_drains(
    servers: Servers,
    ask: Callable[[str], Retriever],
    two_segments: Path,
    eventually: Eventually,
    free_addresses: list[str],
) -> None:
    shard, address = free_addresses
    router = servers.spawn("route", "--shards", shard, "--listen", address)
    eventually(lambda: health(address) != "UNAVAILABLE")
    assert health(address) == "NOT_SERVING"
    servers.start(["serve", two_segments], listen=shard)
    eventually(lambda: health(address) == "SERVING")
    assert router.stdout is not None
    assert router.stdout.readline() == f"grpc://{address}\n"

    # Calls under way are answered while the server ends; calls that come then are refused.
    client = ask(address)
    client.search(SearchRequest(TWIN, 1))
    with ThreadPoolExecutor(16) as threads:
        calls = [threads.submit(client.search, SearchRequest(TWIN, 1000)) for _ in range(64)]
        while not any(call.done() for call in calls):
            time.sleep(0.001)
        router.send_signal(signal.SIGTERM)
        outcomes = [call.exception() for call in calls]
    assert router.wait(60) == 0
    assert servers.errors(router) == ""
    answered = [call.result() for call, error in zip(calls, outcomes, strict=True) if error is None]
    assert answered
    assert all(len(response.hits) == 1000 for response in answered)
    assert all(isinstance(error, Unavailable) for error in outcomes if error is not None)
    assert health(address) == "UNAVAILABLE"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_shard_that_is_told_to_end_ends_well(servers: Servers, two_segments: Path, number: int) -> None:
    (address,) = servers.shards(two_segments, 1)
    process = servers.processes[address]
    process.send_signal(number)
    assert process.wait(60) == 0
    assert servers.errors(process) == ""


def test_a_killed_shard_is_named_and_one_that_comes_back_is_used(
    servers: Servers, ask: Callable[[str], Retriever], two_segments: Path, eventually: Eventually
) -> None:
    first, second = servers.shards(two_segments, 2)
    (address,) = servers.start(["route", "--shards", f"{first},{second}"])
    whole = ask(address).search(SearchRequest(TWIN, 40, require_complete=True))
    servers.kill(second)

    done = pergamon("search", f"grpc://{address}", TWIN, "--json")
    assert done.returncode == 0
    coverage = json.loads(done.stdout)["coverage"]
    assert (coverage["shards_total"], coverage["shards_ok"], list(coverage["failures"])) == (2, 1, [second])
    assert 0 < coverage["passages_searched"] < coverage["passages_total"]
    shown = pergamon("search", f"grpc://{address}", TWIN)
    assert f"did not answer: {second}" in shown.stdout
    refused = pergamon("search", f"grpc://{address}", TWIN, "--require-complete")
    assert (refused.returncode, refused.stdout) == (1, "")
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"error: 1 of 2 shards did not answer ({second}: ")

    servers.start(["serve", two_segments, "--shard", "1/2", "--warm-up-s", "0"], listen=second)
    eventually(lambda: ask(address).search(SearchRequest(TWIN)).coverage.complete)
    assert ask(address).search(SearchRequest(TWIN, 40, require_complete=True)).hits == whole.hits


def pergamon(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pergamon.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_servers_that_cannot_start_say_why(servers: Servers, two_segments: Path, free_addresses: list[str]) -> None:
    (taken,) = servers.start(["serve", two_segments, "--shard", "0/2", "--warm-up-s", "0"])
    for arguments, reason in [
        (("serve", str(two_segments), "--listen", taken), "Address already in use"),
        (
            ("serve", str(two_segments), "--encoder", "nobodys", "--warm-up-s", "0", "--listen", "127.0.0.1:0"),
            "no encoder is called",
        ),
        (("route", "--shards", free_addresses[0], "--wait-s", "0.5", "--listen", "127.0.0.1:0"), "cannot be reached"),
    ]:
        done = pergamon(*arguments)
        assert (done.returncode, done.stdout) == (1, ""), arguments
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ")
        assert reason in line
