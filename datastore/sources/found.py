"""What every source is and yields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from datastore.documents import Document
from datastore.sources.rejects import Rejects


class Found(NamedTuple):
    """A document and the place it was found at, as rejects name it."""

    document: Document
    file: str
    line: int


class Source(Protocol):
    """Something that documents are read from: the same ones in the same order at every reading."""

    def read(self, rejects: Rejects, max_document_bytes: int) -> Iterator[Found]:
        """The documents of this source; what cannot be one, or is larger than allowed, goes to `rejects`."""
        ...
