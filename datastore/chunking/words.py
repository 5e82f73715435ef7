"""Passages of a number of words."""

from __future__ import annotations

import re
from collections.abc import Iterator

from datastore.chunking.spans import CHARACTERS_PER_UNIT, Unit, pack, to_passages
from datastore.documents import Document, Passage
from datastore.errors import InvalidArgument

MAX_CHUNK_WORDS = 1_000_000


def chunk_words(document: Document, words: int, overlap: int = 0) -> Iterator[Passage]:
    """The passages of `document`, of at most `words` words each; the last one may be short.

    A word is a run of characters other than white space (MassiveDS's unit, Shao et al. 2024). A passage also ends
    before it would exceed 16 characters for each word allowed (`CHARACTERS_PER_UNIT`), and a word longer than that is
    cut there: text without spaces, such as Chinese or an encoded file, comes in passages of that size.

    Every character other than white space is in exactly one passage, or with an overlap in at least one; a passage
    begins and ends with one, and is an exact slice of the text. With `words` 0 the whole text is one passage, whatever
    its size. A document without text has one passage, empty, if it has a title, else none.

    Args:
        overlap: words at the end of a passage that the next one begins with, at most; fewer than `words`.

    Raises:
        InvalidArgument: `words` is not in 0 … 1,000,000.
    """
    if not 0 <= words <= MAX_CHUNK_WORDS:
        raise InvalidArgument(
            f"chunk words is {words}; it must be between 0 and {MAX_CHUNK_WORDS}",
            mend="pass a number of words a passage, such as 256, or 0 for one passage a document",
            field="chunk_words",
        )
    text = document.text
    return to_passages(document, pack(_words(text, words), words, overlap) if words else _whole(text))


def _whole(text: str) -> Iterator[tuple[int, int]]:
    if text and not text.isspace():
        yield len(text) - len(text.lstrip()), len(text.rstrip())


def _words(text: str, words: int) -> Iterator[Unit]:
    for word in re.finditer(rf"\S{{1,{words * CHARACTERS_PER_UNIT}}}", text):
        yield Unit(word.start(), word.end(), 1)
