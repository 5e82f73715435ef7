"""What every call meets on the server before and after its own work: admission, deadline and the error map."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from typing import TypeVar

import grpc

from datastore.errors import DeadlineExceeded, PergamonError, ResourceExhausted
from retriever.rpc.status import abort

_LONGEST_DEADLINE_S = 86_400.0  # gRPC says "none" as some 10^18 s

_log = logging.getLogger(__name__)

ResponseT = TypeVar("ResponseT")


class Gate:
    """Lets at most `max_in_flight` calls run at once and refuses the others at once."""

    def __init__(self, max_in_flight: int) -> None:
        self._max_in_flight = max_in_flight
        self._places = threading.Semaphore(max_in_flight)

    def run(self, context: grpc.ServicerContext, answer: Callable[[float | None], ResponseT]) -> ResponseT:
        """`answer(timeout_s)`, where `timeout_s` is what is left of the call's deadline, None if it has none.

        A call whose deadline has passed is not computed. Errors of `datastore.errors` end the call with their status;
        any other exception is logged here under a reference, and the caller learns the reference only.
        """
        if not self._places.acquire(blocking=False):
            abort(
                context,
                ResourceExhausted(
                    f"{self._max_in_flight} calls are in flight, which is this server's limit",
                    mend="ask again later, or less often",
                ),
            )
        failure: PergamonError
        try:
            return answer(_time_left(context))
        except PergamonError as error:
            failure = error
        except Exception:
            reference = secrets.token_hex(4)
            _log.exception("a call failed unexpectedly, reference %s", reference)
            failure = PergamonError(
                f"the server failed unexpectedly, reference {reference}", mend="find the reference in the server's log"
            )
        finally:
            self._places.release()
        return abort(context, failure)


def _time_left(context: grpc.ServicerContext) -> float | None:
    remaining = context.time_remaining()
    if remaining is None or remaining > _LONGEST_DEADLINE_S:
        return None
    if remaining <= 0:
        raise DeadlineExceeded("the deadline passed before the call began", mend="allow more time, or ask less often")
    return remaining
