"""What all chunkers share: passages are slices of a document, packed of smaller slices under two bounds."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from datastore.documents import Document, Passage

CHARACTERS_PER_UNIT = 16
"""A passage of n words or tokens has at most n times as many characters. English prose has 5 to 7 in a word, white
space included, and 4 to 5 in a token."""


class Unit(NamedTuple):
    """A slice that stays whole."""

    start: int
    end: int
    size: int
    """In words or tokens."""


def pack(units: Iterable[Unit], size: int, overlap: int = 0) -> Iterator[tuple[int, int]]:
    """(start, end) of runs of units, each as long as fits into `size` and into 16 characters for each of `size`.

    A run begins with the last units of the one before it, as many as fit into `overlap`, and into 16 characters for
    each of that, and brings at least one more. A unit that is larger than a bound alone is a run of its own.
    """
    run: deque[Unit] = deque()
    total = 0
    for unit in units:
        if run and not _fits(total + unit.size, run[0].start, unit.end, size):
            yield run[0].start, run[-1].end
            while run and not (
                _fits(total, run[0].start, run[-1].end, overlap)
                and _fits(total + unit.size, run[0].start, unit.end, size)
            ):
                total -= run.popleft().size
        run.append(unit)
        total += unit.size
    if run:
        yield run[0].start, run[-1].end


def _fits(units: int, start: int, end: int, size: int) -> bool:
    return units <= size and end - start <= size * CHARACTERS_PER_UNIT


def to_passages(document: Document, spans: Iterable[tuple[int, int]]) -> Iterator[Passage]:
    """The passages at these places of the text; a title without text is one empty passage."""
    index = -1
    for index, (start, end) in enumerate(spans):
        yield _passage(document, index, start, end)
    if index < 0 and document.title.strip():
        yield _passage(document, 0, 0, 0)


def rejoin(passages: Sequence[Passage]) -> str:
    """The text that all passages of a document were made of, but for white space before, between and after them.

    Places that do not ascend, as those of passages from elsewhere may not, say nothing: their texts are put one after
    another.
    """
    parts: list[str] = []
    start = end = -1
    for passage in passages:
        known = passage.start > start
        parts.append(" " * (not known or passage.start > end))
        parts.append(passage.text[max(end - passage.start, 0) if known else 0 :])
        start, end = passage.start, passage.end
    return "".join(parts[1:])


def _passage(document: Document, index: int, start: int, end: int) -> Passage:
    return Passage(
        document_id=document.document_id,
        chunk_index=index,
        text=document.text[start:end],
        title=document.title,
        source=document.source,
        start=start,
        end=end,
        attributes=document.attributes,
    )
