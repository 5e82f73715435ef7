"""What every source is and yields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from datastore.config import InputConfig
from datastore.documents import Document
from datastore.sources.rejects import Rejects


class Found(NamedTuple):
    """A document and the place it was found at, as rejects name it."""

    document: Document
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the input that is read at once: a file, or a part of one.

    Plain data, which JSON can hold (`dataclasses.asdict`, `Piece(**values)`): another process, or another machine that
    sees the same files, reads it by `datastore.sources.inputs.read_piece`.
    """

    reader: str
    """Who reads it: a key of `datastore.sources.registry.SOURCES`."""
    location: str
    """A path (a relative one as seen from the folder that inputs were named in), a URL, or another input's value."""
    name: str
    """Of the file in its input: what the ids of documents that bring none begin with."""
    source: str
    """The source of documents that name none."""
    start: int = 0
    """Where it begins: a byte of JSON Lines, a row group of Parquet, a row of a dataset."""
    stop: int | None = None
    """Where it ends, exclusive; None at the end of the file."""
    first: int = 1
    """Number of its first line or row in the file."""
    size: int = 0
    """About as many bytes are read for it: to share out work by."""


class Source(Protocol):
    """Reads one kind of input: the same documents in the same order at every reading."""

    def pieces(self, whole: Piece, target_bytes: int) -> Iterator[Piece]:
        """`whole` in pieces of about `target_bytes`, in order, or as it is where this kind has no parts.

        They depend on the content and on `target_bytes` alone. Together they hold every record once.

        Raises:
            DataLoss: it cannot be read (any more).
        """
        ...

    def read(self, piece: Piece, rejects: Rejects, config: InputConfig) -> Iterator[Found]:
        """The documents of a piece; what cannot be one, or is larger than allowed, goes to `rejects`.

        Raises:
            DataLoss: it cannot be read (any more).
        """
        ...


def whole(whole: Piece, target_bytes: int) -> Iterator[Piece]:
    """`Source.pieces` of what is read at once, whatever its size."""
    yield whole
