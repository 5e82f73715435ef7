"""`pergamon serve` and `pergamon route`."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import typer

from datastore.devices import parse_device
from datastore.encoders.registry import open_query_encoder
from datastore.errors import DeadlineExceeded, InvalidArgument, Unavailable
from pergamon import options
from retriever.live_shard import REFRESH_S, LiveShard
from retriever.membership import Membership
from retriever.router import Router
from retriever.rpc.remote_shard import RemoteShard
from retriever.rpc.server import RpcServer

SERVE_EXAMPLES = """
**Examples**

`pergamon serve my.store --listen 127.0.0.1:7700`

`pergamon serve my.store --shard 0/2 --listen 127.0.0.1:7701` (and `--shard 1/2` on another port, for `pergamon route`)

`pergamon serve my.store --device cuda:0,1` (codes shared out over two GPUs; docs/gpu.md)
"""
ROUTE_EXAMPLES = """
**Example**

`pergamon route --shards 127.0.0.1:7701,127.0.0.1:7702 --listen 127.0.0.1:7700`
"""

_MAX_SHARDS = 65_536
_LISTEN = typer.Option("127.0.0.1:7700", "--listen", help="HOST:PORT; port 0 takes a free one.")
_GRACE = typer.Option(10.0, "--grace-s", help="Seconds for running calls to finish at the end.")


def serve(
    store: Path = typer.Argument(..., help="The folder of a datastore."),
    listen: str = _LISTEN,
    shard: str = typer.Option("0/1", "--shard", help="I/N: serve the I-th of N parts, counted from 0."),
    encoder: str | None = typer.Option(None, "--encoder", help="Where to load the datastore's encoder from."),
    warm_up_s: float = typer.Option(2.0, "--warm-up-s", help="Seconds of trial searches before it says it serves."),
    device: options.Device = "auto",
    refresh_seconds: float = typer.Option(
        REFRESH_S, "--refresh-seconds", min=0.0, help="Between looks for a new generation of the store; 0 for never."
    ),
    grace_s: float = _GRACE,
) -> None:
    """Serve a datastore, or one shard of it, over gRPC; prints the address when it is ready.

    What is added to the store, deleted or tuned meanwhile is served soon after (docs/serving.md).
    """
    part, chosen = _parse_shard(shard), parse_device(device)
    with _terminated_cleanly():
        held = LiveShard(store, part, chosen, refresh_s=refresh_seconds)
        router = Router(Membership([held]), lambda: open_query_encoder(held.describe().encoder, encoder, chosen))
        server = RpcServer(listen, retriever=router, shard=held)

        def prepare() -> None:
            held.warm_up(warm_up_s)
            # A shard behind a router gets encoded queries: its encoder is loaded only if somebody asks it directly.
            if part[1] == 1:
                _warm_up(router)

        _run(server, router, prepare, grace_s)


def route(
    shards: str = typer.Option(..., "--shards", help="HOST:PORT of each shard's server, separated by commas."),
    listen: str = _LISTEN,
    encoder: str | None = typer.Option(None, "--encoder", help="Where to load the datastore's encoder from."),
    device: options.Device = "auto",
    wait_s: float = typer.Option(60.0, "--wait-s", help="Seconds to wait for a first shard to answer."),
    grace_s: float = _GRACE,
) -> None:
    """Answer queries over the shards of a datastore; prints the address when it is ready."""
    addresses = [address.strip() for address in shards.split(",") if address.strip()]
    if not addresses or len(set(addresses)) != len(addresses):
        raise InvalidArgument(
            f"--shards is {shards!r}; wanted different HOST:PORT, separated by commas",
            mend="name each shard's server once",
            field="shards",
        )
    chosen = parse_device(device)
    with _terminated_cleanly():
        members = Membership([RemoteShard(address) for address in addresses])
        router = Router(members, lambda: open_query_encoder(members.any_info().encoder, encoder, chosen))
        server = RpcServer(listen, retriever=router)

        def prepare() -> None:
            _wait_for_shard(members, wait_s)
            _warm_up(router)

        _run(server, router, prepare, grace_s)


def _run(server: RpcServer, router: Router, prepare: Callable[[], None], grace_s: float) -> None:
    """Serve until told to stop; health checks say SERVING once `prepare` has loaded what a query needs."""
    try:
        address = server.start()
        prepare()
        server.set_serving()
        typer.echo(f"grpc://{address}")
        server.wait()
    except KeyboardInterrupt:
        pass  # told to end, by Ctrl-C or SIGTERM
    finally:
        server.stop(grace_s)
        router.close()


def _warm_up(router: Router) -> None:
    router.load_encoder().encode_queries(["warm up"])


def _wait_for_shard(members: Membership, wait_s: float) -> None:
    """Until a first shard says what the datastore is; a later one may come and go."""
    end = time.monotonic() + wait_s
    while True:
        try:
            members.any_info()
            return
        except (Unavailable, DeadlineExceeded):
            if time.monotonic() >= end:
                raise
            time.sleep(0.2)


def _parse_shard(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count) <= _MAX_SHARDS):
        raise InvalidArgument(
            f"--shard is {text!r}; wanted I/N with 0 <= I < N <= {_MAX_SHARDS}",
            mend="number the shards from 0: for two, 0/2 and 1/2",
            field="shard",
        )
    return int(index), int(count)


@contextmanager
def _terminated_cleanly() -> Iterator[None]:
    """Let SIGTERM end the server as Ctrl-C does: drained, with status 0."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
