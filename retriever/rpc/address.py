"""Network addresses as users write them: `HOST:PORT`."""

from __future__ import annotations

import re

from datastore.errors import InvalidArgument

_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\s:\[\]/]+):(?P<port>[0-9]{1,5})", re.ASCII)


def parse_host_port(address: str, field: str) -> tuple[str, int]:
    """`("127.0.0.1", 50051)` of `"127.0.0.1:50051"`; an IPv6 host stands in brackets and loses them.

    Raises InvalidArgument, naming `field`, for anything else and for a port above 65535.
    """
    match = _HOST_PORT.fullmatch(address)
    if match is None or int(match["port"]) > 65535:
        raise InvalidArgument(
            f"{field} is {address!r}; wanted HOST:PORT with a port of 0 to 65535",
            mend="write it like 127.0.0.1:50051, localhost:50051 or [::1]:50051",
            field=field,
        )
    return match["host"].strip("[]"), int(match["port"])


def format_host_port(host: str, port: int) -> str:
    """The inverse of `parse_host_port`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
