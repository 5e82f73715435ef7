"""Chunkers by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from datastore.chunking.semantic import semantic_spans
from datastore.chunking.spans import to_passages
from datastore.chunking.tokens import CountTokens, TokenCounts, token_spans
from datastore.chunking.words import chunk_words
from datastore.config import ChunkConfig
from datastore.documents import Document, Passage

Chunker = Callable[[Document], Iterator[Passage]]
"""The passages of a document, in order: exact slices of its text, none blank, which together hold every character other
than white space, exactly once where there is no overlap. A document without text has one empty passage if it has a
title, else none."""

_Spans = Callable[[str, TokenCounts, int, int], Iterator[tuple[int, int]]]

BY_TOKENS: dict[str, _Spans] = {
    "tokens": token_spans,
    "sentences": partial(semantic_spans, ends="sentences"),
    "structure": partial(semantic_spans, ends="structure"),
}


def open_chunker(config: ChunkConfig, count_tokens: CountTokens) -> Chunker:
    """The chunker that `config` names.

    Args:
        count_tokens: the encoder's; chunkers by words do not call it.
    """
    if config.chunker == "words":
        return partial(chunk_words, words=config.words, overlap=config.overlap)
    spans, counts = BY_TOKENS[config.chunker], TokenCounts(count_tokens)

    def chunk(document: Document) -> Iterator[Passage]:
        return to_passages(document, spans(document.text, counts, config.size, config.overlap))

    return chunk
