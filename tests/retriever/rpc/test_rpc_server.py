"""The server's own duties: health, reflection, admission, deadlines, sizes, ports, drain."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # type: ignore[import-untyped]

from datastore.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from retriever.api import SearchRequest
from retriever.rpc.channel import DEFAULT_TIMEOUT_S
from retriever.rpc.gate import Gate
from retriever.rpc.remote_retriever import RemoteRetriever
from retriever.rpc.remote_shard import RemoteShard
from retriever.rpc.server import RETRIEVAL_SERVICE, SHARD_SERVICE, RpcServer
from retriever.shard import DenseQuery, Shard, ShardQuery
from retriever.stubs.pergamon.retrieval.v1 import retrieval_pb2, retrieval_pb2_grpc

MakeShard = Callable[..., Shard]
Serve = Callable[..., str]


class Blocker:
    """A `before` that holds calls until `release` is set."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.release = threading.Event()

    def __call__(self, _: float | None) -> None:
        self.entered.release()
        assert self.release.wait(10)


def health_of(address: str, service: str) -> str:
    with grpc.insecure_channel(address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def test_health_follows_the_servers_life(make_shard: MakeShard, retriever: object) -> None:
    blocker = Blocker()
    server = RpcServer("127.0.0.1:0", retriever=retriever, shard=make_shard(blocker))  # type: ignore[arg-type]
    address = server.start()
    services = ("", RETRIEVAL_SERVICE, SHARD_SERVICE)
    assert {health_of(address, service) for service in services} == {"NOT_SERVING"}
    server.set_serving()
    assert {health_of(address, service) for service in services} == {"SERVING"}

    with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(2) as threads:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=10)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        call = threads.submit(RemoteShard(address).describe)
        assert blocker.entered.acquire(timeout=10)
        stopping = threads.submit(server.stop, 5.0)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        blocker.release.set()
        assert call.result(timeout=10).passages == 30  # what was in flight ends well
        stopping.result(timeout=10)
    server.wait()
    with pytest.raises(Unavailable, match=address):
        RemoteShard(address).describe()


def test_health_names_only_what_is_served(serve: Serve, shard: Shard) -> None:
    with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
        health_of(serve(shard=shard), RETRIEVAL_SERVICE)


def test_calls_that_outlast_the_grace_are_cancelled(make_shard: MakeShard) -> None:
    blocker = Blocker()
    server = RpcServer("127.0.0.1:0", shard=make_shard(blocker))
    remote = RemoteShard(server.start())
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(remote.describe)
        assert blocker.entered.acquire(timeout=10)
        begin = time.monotonic()
        server.stop(0.2)
        assert time.monotonic() - begin < 5
        with pytest.raises(Unavailable):
            call.result(timeout=10)
        blocker.release.set()


def test_reflection_lists_and_describes_the_services(serve: Serve, shard: Shard, retriever: object) -> None:
    with grpc.insecure_channel(serve(shard=shard, retriever=retriever)) as channel:
        requests = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_by_filename="pergamon/common/v1/passage.proto"),
        ]
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        listed, described = stub.ServerReflectionInfo(iter(requests), timeout=10)
    names = {service.name for service in listed.list_services_response.service}
    assert {RETRIEVAL_SERVICE, SHARD_SERVICE, "grpc.health.v1.Health"} <= names
    assert described.file_descriptor_response.file_descriptor_proto


def test_too_many_calls_are_refused_at_once_and_health_still_answers(serve: Serve, make_shard: MakeShard) -> None:
    blocker = Blocker()
    address = serve(shard=make_shard(blocker), max_in_flight=2)
    remote = RemoteShard(address)
    with ThreadPoolExecutor(2) as threads:
        held = [threads.submit(remote.describe) for _ in range(2)]
        for _ in held:
            assert blocker.entered.acquire(timeout=10)
        begin = time.monotonic()
        for _ in range(10):
            with pytest.raises(ResourceExhausted, match="2 calls are in flight"):
                remote.describe()
        assert health_of(address, "") == "NOT_SERVING"
        assert time.monotonic() - begin < 2
        blocker.release.set()
        assert [call.result(timeout=10).passages for call in held] == [30, 30]
    assert remote.describe().passages == 30


def test_failed_calls_give_their_place_back(serve: Serve, make_shard: MakeShard) -> None:
    def fail(_: float | None) -> None:
        raise ResourceExhausted("the disk is full", mend="free some space")

    remote = RemoteShard(serve(shard=make_shard(fail), max_in_flight=1))
    for _ in range(5):
        with pytest.raises(ResourceExhausted, match="the disk is full"):
            remote.describe()


def test_the_deadline_is_handed_on_and_ends_the_call(serve: Serve, make_shard: MakeShard) -> None:
    seen: list[float | None] = []
    address = serve(shard=make_shard(seen.append))
    query = ShardQuery(3, DenseQuery(np.ones(8, np.float32)))
    RemoteShard(address).search(replace(query, timeout_s=5.0))
    RemoteShard(address).search(query)
    assert seen[0] is not None
    assert seen[0] == pytest.approx(5, rel=0.05)
    assert seen[1] is not None
    assert seen[1] == pytest.approx(DEFAULT_TIMEOUT_S, rel=0.05)

    blocker = Blocker()
    slow = RemoteShard(serve(shard=make_shard(blocker)))
    begin = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"Search: the server at 127\.0\.0\.1:\d+ did not answer.*0\.2 s"):
        slow.search(replace(query, timeout_s=0.2))
    assert time.monotonic() - begin < 2
    blocker.release.set()


def test_a_call_without_deadline_has_no_timeout(serve: Serve, make_retriever: Callable[..., object]) -> None:
    seen: list[float | None] = []
    with grpc.insecure_channel(serve(retriever=make_retriever(seen.append))) as channel:
        stub = retrieval_pb2_grpc.RetrievalServiceStub(channel)
        assert len(stub.Search(retrieval_pb2.SearchRequest(query="lamp")).hits) == 10
    assert seen == [None]


def test_a_call_whose_deadline_has_passed_is_not_computed() -> None:
    """Over a real connection gRPC ends most such calls itself; only a busy server meets one."""

    class Aborted(Exception):
        pass

    class Expired:
        code: grpc.StatusCode | None = None

        def time_remaining(self) -> float:
            return 0.0

        def set_trailing_metadata(self, _: object) -> None:
            pass

        def abort(self, code: grpc.StatusCode, _: str) -> None:
            self.code = code
            raise Aborted

    context = Expired()
    computed: list[float | None] = []
    with pytest.raises(Aborted):
        Gate(1).run(context, computed.append)  # type: ignore[arg-type]
    assert context.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert computed == []


def test_messages_over_the_limit_are_refused_both_ways(serve: Serve, shard: Shard) -> None:
    address = serve(shard=shard, max_message_bytes=2000)
    remote = RemoteShard(address)
    with pytest.raises(ResourceExhausted, match="larger than max"):
        remote.search(ShardQuery(3, DenseQuery(np.ones(1000, np.float32))))
    with pytest.raises(ResourceExhausted, match="larger than max"):
        remote.fetch([("s-1", row) for row in range(30)])
    with pytest.raises(ResourceExhausted, match="larger than max"):
        RemoteShard(address, max_message_bytes=200).fetch([("s-1", 0), ("s-1", 1)])
    assert len(remote.fetch([("s-1", 0)])) == 1


@pytest.mark.parametrize(
    "listen",
    ["", "50051", "127.0.0.1", "127.0.0.1:", ":50051", "a b:1", "h:65536", "::1:5", "grpc://h:1", "h:-1", "h:1\n"],
)
def test_bad_addresses_are_refused(listen: str, shard: Shard) -> None:
    with pytest.raises(InvalidArgument, match="wanted HOST:PORT") as caught:
        RpcServer(listen, shard=shard)
    assert caught.value.field == "listen"
    with pytest.raises(InvalidArgument, match="wanted HOST:PORT"):
        RemoteRetriever(listen)


def test_a_port_in_use_is_refused(serve: Serve, shard: Shard) -> None:
    address = serve(shard=shard)
    with pytest.raises(FailedPrecondition, match=f"cannot listen on {address}: Address already in use"):
        RpcServer(address, shard=shard).start()


def test_a_foreign_host_is_refused(shard: Shard) -> None:
    with pytest.raises(FailedPrecondition, match="Cannot assign requested address"):
        RpcServer("192.0.2.1:0", shard=shard).start()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6(shard: Shard) -> None:
    server = RpcServer("[::1]:0", shard=shard)
    try:
        address = server.start()
    except FailedPrecondition as error:
        pytest.skip(f"no IPv6 here: {error}")
    assert address.startswith("[::1]:")
    assert RemoteShard(address).describe().passages == 30
    server.stop(0)


def test_requests_are_checked(serve: Serve, retriever: object) -> None:
    remote = RemoteRetriever(serve(retriever=retriever))
    for request, field in [
        (SearchRequest("lamp", k=0), "k"),
        (SearchRequest("lamp", k=10**12), "k"),
        (SearchRequest("lamp", k=1001, mmr_lambda=0.5), "k"),
        (SearchRequest("lamp", mmr_lambda=1.1), "mmr_lambda"),
        (SearchRequest("lamp", collapse_similarity=float("nan")), "collapse_similarity"),
        (SearchRequest("  "), "query"),
        (SearchRequest("lamp\ud800"), "query"),
        (SearchRequest("lamp", vector=np.full(8, np.nan, np.float32)), "vector"),
    ]:
        with pytest.raises(InvalidArgument) as caught:
            remote.search(request)
        assert caught.value.field == field
