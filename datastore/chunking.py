"""Documents to passages."""

from __future__ import annotations

import re
from collections.abc import Iterator

from datastore.documents import Document, Passage
from datastore.errors import InvalidArgument

MAX_CHUNK_WORDS = 1_000_000
CHARACTERS_PER_WORD = 16
"""A passage of n words has at most n times as many characters. English prose has 5 to 7, white space included."""


def chunk_words(document: Document, words: int) -> Iterator[Passage]:
    """The passages of `document`, of at most `words` words each, without overlap; the last one may be short.

    A word is a run of characters other than white space (MassiveDS's unit, Shao et al. 2024). A passage also ends
    before it would exceed 16 characters for each word allowed (`CHARACTERS_PER_WORD`), and a word longer than that is
    cut there: text without spaces, such as Chinese or an encoded file, comes in passages of that size.

    Every character other than white space is in exactly one passage; a passage begins and ends with one, and is an
    exact slice of the text. With `words` 0 the whole text is one passage, whatever its size. A document without text
    has one passage, empty, if it has a title, else none.

    Raises:
        InvalidArgument: `words` is not in 0 … 1,000,000.
    """
    if not 0 <= words <= MAX_CHUNK_WORDS:
        raise InvalidArgument(
            f"chunk words is {words}; it must be between 0 and {MAX_CHUNK_WORDS}",
            mend="pass a number of words a passage, such as 256, or 0 for one passage a document",
            field="chunk_words",
        )
    return _passages(document, _spans(document.text, words) if words else _whole(document.text))


def _passages(document: Document, spans: Iterator[tuple[int, int]]) -> Iterator[Passage]:
    index = -1
    for index, (start, end) in enumerate(spans):
        yield _passage(document, index, start, end)
    if index < 0 and document.title.strip():
        yield _passage(document, 0, 0, 0)


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


def _whole(text: str) -> Iterator[tuple[int, int]]:
    if text and not text.isspace():
        yield len(text) - len(text.lstrip()), len(text.rstrip())


def _spans(text: str, words: int) -> Iterator[tuple[int, int]]:
    longest = words * CHARACTERS_PER_WORD
    start = end = count = 0
    for word in re.finditer(rf"\S{{1,{longest}}}", text):
        if count and (count == words or word.end() - start > longest):
            yield start, end
            count = 0
        if not count:
            start = word.start()
        end = word.end()
        count += 1
    if count:
        yield start, end
