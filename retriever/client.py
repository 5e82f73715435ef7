"""From a TARGET, a store's folder or `grpc://host:port`, to a `Retriever`."""

from __future__ import annotations

from pathlib import Path

from datastore.devices import AUTO, DeviceChoice
from datastore.encoders.registry import open_query_encoder
from datastore.errors import InvalidArgument
from retriever.api import Retriever
from retriever.live_shard import REFRESH_S, LiveShard
from retriever.membership import Membership
from retriever.router import Router

GRPC_SCHEME = "grpc://"


def open_target(
    target: str, encoder: str | None = None, device: DeviceChoice = AUTO, refresh_s: float = REFRESH_S
) -> Retriever:
    """Open a datastore for searching.

    Args:
        target: the folder of a store, or `grpc://host:port` of a server or router.
        encoder: for a store whose encoder is to be loaded from elsewhere; it must be the same one.
        device: where queries are encoded and codes searched.
        refresh_s: between looks for a new generation of a store; 0 for never. A server has a setting of its own.
    """
    if target.startswith(GRPC_SCHEME):
        from retriever.rpc.remote_retriever import RemoteRetriever

        if encoder is not None:
            raise InvalidArgument(
                f"an encoder, {encoder!r}, is given for {target}; a server encodes queries itself",
                mend="leave the encoder out, or name it where the server is started",
                field="encoder",
            )
        if device != AUTO:
            raise InvalidArgument(
                f"the device {device} is given for {target}; a server computes where it was told to",
                mend="leave --device out, or give it where the server is started",
                field="device",
            )
        return RemoteRetriever(target.removeprefix(GRPC_SCHEME))
    return open_store(Path(target), encoder, device, refresh_s)


def open_store(
    path: Path, encoder: str | None = None, device: DeviceChoice = AUTO, refresh_s: float = REFRESH_S
) -> Router:
    """A whole store, searched in this process, at its newest generation for as long as it is open."""
    shard = LiveShard(path, device=device, refresh_s=refresh_s)
    return Router(Membership([shard]), lambda: open_query_encoder(shard.describe().encoder, encoder, device))
