"""Every error that Pergamon raises on purpose, as one tree.

    PergamonError
    ├── InvalidArgument      a value in a request, option or file is outside what is allowed
    ├── NotFound             a thing asked for by name does not exist
    ├── AlreadyExists        a thing to be made exists
    ├── FailedPrecondition   two parts do not fit: encoder and store, format and reader
    ├── Unavailable          a server or an endpoint cannot be reached, or is going away
    ├── DeadlineExceeded     the time allowed for a call ran out
    ├── ResourceExhausted    too much at once: calls in flight, size, disk, memory
    └── DataLoss             stored bytes are not what was written

Each message is one line that says the value seen and the value wanted; ``mend`` says what to do about it. The classes
map one to one to gRPC status codes (`retriever/rpc/status.py`) and to the exit status of the command.
"""

from __future__ import annotations


class PergamonError(Exception):
    """Base of the tree.

    Args:
        problem: what was seen and what was wanted, in one line.
        mend: what the reader can do about it, in one line.
        field: the request field or option at fault, where there is one.
    """

    def __init__(self, problem: str, *, mend: str, field: str = "") -> None:
        super().__init__(problem, mend)
        self.problem = " ".join(problem.split())
        self.mend = " ".join(mend.split())
        self.field = field

    def __str__(self) -> str:
        return f"{self.problem}; {self.mend}" if self.mend else self.problem


class InvalidArgument(PergamonError):
    """A value in a request, option or file is outside what is allowed."""


class NotFound(PergamonError):
    """A thing asked for by name does not exist."""


class AlreadyExists(PergamonError):
    """A thing to be made exists already."""


class FailedPrecondition(PergamonError):
    """Two parts do not fit together: an encoder and a store, a format and its reader."""


class Unavailable(PergamonError):
    """A server or an endpoint cannot be reached, or is going away."""


class DeadlineExceeded(PergamonError):
    """The time allowed for a call ran out."""


class ResourceExhausted(PergamonError):
    """Too much at once: calls in flight, message size, disk or memory."""


class DataLoss(PergamonError):
    """Stored bytes are not what was written: a truncated, changed or missing file."""
