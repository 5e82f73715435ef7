"""The gRPC server: a port, the services on it, health, reflection and an orderly end."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

from datastore.errors import FailedPrecondition
from retriever.api import Retriever
from retriever.rpc.address import format_host_port, parse_host_port
from retriever.rpc.channel import DEFAULT_MAX_MESSAGE_BYTES
from retriever.rpc.gate import Gate
from retriever.rpc.servicers import RetrievalServicer, ShardServicer
from retriever.shard import Shard
from retriever.stubs.pergamon.retrieval.v1 import retrieval_pb2, retrieval_pb2_grpc
from retriever.stubs.pergamon.shard.v1 import shard_pb2, shard_pb2_grpc

RETRIEVAL_SERVICE = retrieval_pb2.DESCRIPTOR.services_by_name["RetrievalService"].full_name
SHARD_SERVICE = shard_pb2.DESCRIPTOR.services_by_name["ShardService"].full_name

_SPARE_THREADS = 4
"""Beyond the calls in flight: they refuse calls, and answer health checks however busy the server is."""


class RpcServer:
    """Serves a retriever, a shard or both at `listen` (HOST:PORT; port 0 takes any free one).

    `start` opens the port, `set_serving` makes the health checks positive, `stop` makes them negative and drains. At
    most `max_in_flight` calls are computed at once; more are refused with RESOURCE_EXHAUSTED. What is served stays the
    caller's to close.
    """

    def __init__(
        self,
        listen: str,
        *,
        retriever: Retriever | None = None,
        shard: Shard | None = None,
        max_in_flight: int = 64,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
    ) -> None:
        self._host, self._port = parse_host_port(listen, "listen")
        self._threads = ThreadPoolExecutor(max_in_flight + _SPARE_THREADS, thread_name_prefix="rpc")
        self._server = grpc.server(
            self._threads,
            options=(
                ("grpc.max_send_message_length", max_message_bytes),
                ("grpc.max_receive_message_length", max_message_bytes),
                # Else a second server on the same port would silently get a part of its calls.
                ("grpc.so_reuseport", 0),
                # Clients ask every 20 s during a call whether this server still lives.
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ),
        )
        gate = Gate(max_in_flight)
        services = []
        if retriever is not None:
            retrieval_pb2_grpc.add_RetrievalServiceServicer_to_server(RetrievalServicer(retriever, gate), self._server)
            services.append(RETRIEVAL_SERVICE)
        if shard is not None:
            shard_pb2_grpc.add_ShardServiceServicer_to_server(ShardServicer(shard, gate), self._server)
            services.append(SHARD_SERVICE)
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection([*services, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)
        self._services = (health.OVERALL_HEALTH, *services)
        self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)

    def start(self) -> str:
        """Open the port and answer calls; returns the address, HOST:PORT, with the real port.

        Raises FailedPrecondition, saying why, if the port cannot be opened.
        """
        self._check_bindable()
        try:
            port = self._server.add_insecure_port(format_host_port(self._host, self._port))
        except RuntimeError:
            raise self._cannot_listen("the port was taken this moment") from None
        self._server.start()
        return format_host_port(self._host, port)

    def set_serving(self) -> None:
        """Tell health checks that calls may come: all is verified and loaded."""
        self._set_health(health_pb2.HealthCheckResponse.SERVING)

    def wait(self) -> None:
        """Return after a `stop` in another thread. Signal handlers should raise from here, and the caller then stop."""
        self._server.wait_for_termination()

    def stop(self, grace_s: float) -> None:
        """Refuse new calls, let those in flight end within `grace_s` seconds, and cancel what is left then."""
        self._health.enter_graceful_shutdown()
        self._server.stop(grace_s).wait()
        self._threads.shutdown(wait=False)

    def _set_health(self, status: int) -> None:
        for service in self._services:
            self._health.set(service, status)

    def _check_bindable(self) -> None:
        """Find out in words what gRPC would only log."""
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            raise self._cannot_listen(error.strerror or str(error)) from None

    def _cannot_listen(self, reason: str) -> FailedPrecondition:
        return FailedPrecondition(
            f"cannot listen on {format_host_port(self._host, self._port)}: {reason}",
            mend="choose an address of this machine and a free port, or port 0 for any",
            field="listen",
        )
