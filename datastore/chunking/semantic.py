"""Passages that end where the text does something: at the end of a sentence, of a paragraph, of a section.

The places come from semantic-text-splitter (Rust): sentences by Unicode's rules (UAX 29), sections, lists, tables and
code by CommonMark. It fills a passage with the largest whole parts that fit, and cuts a part only where it does not fit
alone. Tokens are counted by `TokenCounts`: the tokenizer itself would see the same words again at every level, which
takes ten times as long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Literal

from datastore.chunking.spans import CHARACTERS_PER_UNIT
from datastore.chunking.tokens import TokenCounts

_BLOCK_CHARACTERS = 1 << 18
"""Longer texts are split block by block, to bound time and memory; blocks end at a blank line where there is one."""


def semantic_spans(
    text: str, counts: TokenCounts, size: int, overlap: int, *, ends: Literal["sentences", "structure"]
) -> Iterator[tuple[int, int]]:
    """Passages of at most `size` tokens, of whole sentences or whole parts of the document's structure where they fit.

    With `overlap`, a passage begins with the last parts of the one before it, as many whole ones as fit. Promises are
    those of `chunk_words`.
    """
    from semantic_text_splitter import MarkdownSplitter, TextSplitter

    splitter_class = TextSplitter if ends == "sentences" else MarkdownSplitter
    splitter = splitter_class.from_callback(partial(_measure, counts, size), size, overlap=overlap)
    # Lone surrogates, which Rust's strings cannot hold, are one question mark each: offsets stay.
    readable = text if text.isascii() else text.encode(errors="replace").decode()
    last_end = 0
    for block_start, block_end in _blocks(readable):
        block = readable[block_start:block_end]
        for offset, part in splitter.chunk_indices(block):
            start = block_start + offset + len(part) - len(part.lstrip())
            end = start + len(part.strip())
            if end <= max(start, last_end):  # it is white space, or all of it was in the passage before
                continue
            last_end = end
            yield start, end


def _measure(counts: TokenCounts, size: int, text: str) -> int:
    """The tokens of `text`, or as many as bring it the characters that it has, if those are more."""
    least = -(-len(text) // CHARACTERS_PER_UNIT)
    return least if least > size else max(least, counts.of_text(text))


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    while len(text) - start > _BLOCK_CHARACTERS:
        limit = start + _BLOCK_CHARACTERS
        end = max(text.rfind("\n\n", start, limit), text.rfind("\n", (start + limit) // 2, limit)) + 1
        if end <= start:
            spaces = [space.end() for space in re.finditer(r"\s", text[limit - 4096 : limit])]
            end = limit - 4096 + spaces[-1] if spaces else limit
        yield start, end
        start = end
    yield start, len(text)
