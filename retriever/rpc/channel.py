"""One client connection to a server: how it is opened, and how a call's failure becomes one of our errors."""

from __future__ import annotations

from typing import TypeVar

import grpc

from datastore.errors import Unavailable
from retriever.rpc.address import parse_host_port
from retriever.rpc.status import error_of

DEFAULT_TIMEOUT_S = 30.0
"""Of a call whose caller sets none."""
DEFAULT_MAX_MESSAGE_BYTES = 64 << 20

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


class Connection:
    """A channel to one address, opened by the first call and again after the server comes back.

    Raises InvalidArgument for an address that is not HOST:PORT.
    """

    def __init__(self, address: str, max_message_bytes: int) -> None:
        parse_host_port(address, "address")
        self.address = address
        self._closed = False
        self.channel = grpc.insecure_channel(
            address,
            options=(
                ("grpc.max_send_message_length", max_message_bytes),
                ("grpc.max_receive_message_length", max_message_bytes),
                # A server that does not accept within this time is unavailable; it is tried again at most 1 s later.
                ("grpc.min_reconnect_backoff_ms", 3_000),
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1_000),
                # A peer that vanished without closing is noticed while a call waits for it.
                ("grpc.keepalive_time_ms", 20_000),
                ("grpc.keepalive_timeout_ms", 5_000),
                # Shards are addressed directly: an http_proxy meant for the web must not swallow them.
                ("grpc.enable_http_proxy", 0),
            ),
        )

    def call(
        self, method: grpc.UnaryUnaryMultiCallable[RequestT, ResponseT], request: RequestT, timeout_s: float | None
    ) -> ResponseT:
        """The server's answer. Raises the error that the server raised, or says why there is no answer."""
        if timeout_s is None:
            timeout_s = DEFAULT_TIMEOUT_S
        try:
            return method(request, timeout=timeout_s)
        except grpc.RpcError as failure:
            name = type(request).__name__.removesuffix("Request")
            raise error_of(failure, name, self.address, timeout_s) from None
        except ValueError:
            if not self._closed:
                raise
            raise Unavailable(f"the client of {self.address} is closed", mend="open a new one") from None

    def close(self) -> None:
        """End the calls under way and those to come with Unavailable."""
        self._closed = True
        self.channel.close()
