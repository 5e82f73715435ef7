"""The error map: the classes of `datastore.errors` and gRPC's status codes, in both directions.

A server sends the class as the code, `str(error)` as the details that every gRPC tool shows, and problem, mend and
field as a `pergamon.common.v1.ErrorDetail` in the trailing metadata, so that a client raises what it would have got in
process. A failure without that message is gRPC's own, or another server's: the client's error then names the address.
"""

from __future__ import annotations

from typing import NoReturn, cast

import grpc
from google.protobuf.message import DecodeError

from datastore.errors import (
    AlreadyExists,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PergamonError,
    ResourceExhausted,
    Unavailable,
)
from retriever.stubs.pergamon.common.v1 import error_pb2

ERROR_DETAIL_KEY = "pergamon-error-bin"

CODES: dict[type[PergamonError], grpc.StatusCode] = {
    PergamonError: grpc.StatusCode.INTERNAL,
    InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DataLoss: grpc.StatusCode.DATA_LOSS,
}
CLASSES: dict[grpc.StatusCode, type[PergamonError]] = {code: error for error, code in CODES.items()}

# Failures that no server of ours reported: the class, what the server did, and what the user can do.
_FOREIGN: dict[grpc.StatusCode, tuple[type[PergamonError], str, str]] = {
    grpc.StatusCode.UNAVAILABLE: (
        Unavailable,
        "cannot be reached",
        "check the address, and that the server is running",
    ),
    grpc.StatusCode.CANCELLED: (
        Unavailable,
        "ended the call",
        "ask again; the server was stopping or the client was closed",
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: (
        DeadlineExceeded,
        "did not answer in time",
        "allow more time, or ask for less",
    ),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        ResourceExhausted,
        "cannot exchange a message of that size",
        "ask for less at once, or raise the message size limits",
    ),
    grpc.StatusCode.UNIMPLEMENTED: (
        FailedPrecondition,
        "does not know the call",
        "check the address, and that both sides have one version",
    ),
}

# HTTP/2 peers may refuse trailers above 8 KiB. Problem and mend travel twice: percent-encoded as text, and in base64.
_MAX_PROBLEM_BYTES = 800
_MAX_MEND_BYTES = 400


def abort(context: grpc.ServicerContext, error: PergamonError) -> NoReturn:
    """End the call on the server with the status of `error`."""
    code = next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)
    problem, mend = _shorten(error.problem, _MAX_PROBLEM_BYTES), _shorten(error.mend, _MAX_MEND_BYTES)
    detail = error_pb2.ErrorDetail(problem=problem, mend=mend, field=_shorten(error.field, 100))
    context.set_trailing_metadata(((ERROR_DETAIL_KEY, detail.SerializeToString()),))
    context.abort(code, str(PergamonError(problem, mend=mend)))


def error_of(failure: grpc.RpcError, call_name: str, address: str, timeout_s: float) -> PergamonError:
    """What a client raises for a call that failed at the server `address`."""
    call = cast("grpc.Call", failure)  # what a stub raises is both
    code = call.code()
    detail = _detail_of(call)
    if detail is not None and code in CLASSES:
        return CLASSES[code](detail.problem, mend=detail.mend, field=detail.field)
    elsewhere = (CLASSES.get(code, PergamonError), f"failed with {code.name}", "see the server's log")
    kind, what, mend = _FOREIGN.get(code, elsewhere)
    details = call.details() or "no reason given"
    return kind(f"{call_name}: the server at {address} {what} ({details}; {timeout_s:.3g} s were allowed)", mend=mend)


def _detail_of(call: grpc.Call) -> error_pb2.ErrorDetail | None:
    for key, value in call.trailing_metadata() or ():
        if key == ERROR_DETAIL_KEY and isinstance(value, bytes):
            try:
                return error_pb2.ErrorDetail.FromString(value)
            except DecodeError:
                return None
    return None


def _shorten(text: str, limit: int) -> str:
    """`text` in at most `limit` bytes of UTF-8; what UTF-8 cannot hold becomes a question mark."""
    encoded = text.encode("utf-8", errors="replace")
    if len(encoded) <= limit:
        return encoded.decode("utf-8")
    return encoded[: limit - 3].decode("utf-8", errors="ignore") + "…"
