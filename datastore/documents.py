"""What a source yields and what is retrieved: documents and passages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

AttributeValue = str | int | float | bool
"""A value that a filter can compare. Sources keep lists and objects as their JSON text."""


class PassageName(NamedTuple):
    """The stable name of a passage: the same in every build of the same input, on every shard."""

    document_id: str
    chunk_index: int


@dataclass(frozen=True, slots=True)
class Document:
    """One item of a source. ``document_id`` is the user's own, unique in a datastore."""

    document_id: str
    text: str
    title: str = ""
    source: str = ""
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk of a document, the unit of retrieval.

    ``text`` is exactly ``document.text[start:end]``: ``start`` and ``end`` count Unicode code points in the document.
    Title, source and attributes are the document's.
    """

    document_id: str
    chunk_index: int
    text: str
    title: str
    source: str
    start: int
    end: int
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)

    @property
    def name(self) -> PassageName:
        return PassageName(self.document_id, self.chunk_index)

    @property
    def indexed_text(self) -> str:
        """What encoders and BM25 see: title and text, joined by a space where there are both."""
        return f"{self.title} {self.text}" if self.title and self.text else self.title or self.text
