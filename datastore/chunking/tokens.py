"""Passages of a number of the encoder's tokens, and how those are counted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from datastore.chunking.spans import Unit, pack

CountTokens = Callable[[Sequence[str]], list[int]]
"""`Encoder.count_tokens`."""

_WORD = re.compile(r"\S{1,128}")
_WORDS_AT_ONCE = 4096
_MAX_KNOWN = 1 << 20
"""Words whose counts are kept: some 100 MB."""


class TokenCounts:
    """Counts tokens word by word, each different word once: faster than the tokenizer, since text repeats words.

    The count of a text is the sum over its words, without the marks that an encoder puts around a text. For tokenizers
    that split at white space first, WordPiece and most others, that is exact; others may differ by a token here and
    there. A word of more than 128 characters counts in parts of 128.
    """

    def __init__(self, count_tokens: CountTokens) -> None:
        self._count_tokens = count_tokens
        (self._marks,) = count_tokens([""])
        self._known: dict[str, int] = {}

    def of_words(self, words: Sequence[str]) -> list[int]:
        if len(self._known) > _MAX_KNOWN:
            self._known = {}
        known = self._known
        if unknown := [word for word in dict.fromkeys(words) if word not in known]:
            for word, count in zip(unknown, self._count_tokens(unknown), strict=True):
                known[word] = max(0, count - self._marks)
        return [known[word] for word in words]

    def of_text(self, text: str) -> int:
        return sum(self.of_words(_WORD.findall(text)))

    def units(self, text: str, start: int = 0, end: int | None = None, *, size: int) -> Iterator[Unit]:
        """The words of a part of the text with their tokens; one that has more than `size` in smaller parts."""
        words = _WORD.finditer(text, start, len(text) if end is None else end)
        while batch := list(islice(words, _WORDS_AT_ONCE)):
            for word, count in zip(batch, self.of_words([word.group() for word in batch]), strict=True):
                if count <= size:
                    yield Unit(word.start(), word.end(), count)
                else:
                    yield from self._halves(text, word.start(), word.end(), size)

    def _halves(self, text: str, start: int, end: int, size: int) -> Iterator[Unit]:
        middle = (start + end) // 2
        for part_start, part_end in ((start, middle), (middle, end)):
            (count,) = self.of_words([text[part_start:part_end]])
            if count <= size or part_end - part_start == 1:
                yield Unit(part_start, part_end, count)
            else:
                yield from self._halves(text, part_start, part_end, size)


def token_spans(text: str, counts: TokenCounts, size: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Passages of whole words with at most `size` tokens, with the bounds and promises of `chunk_words`. A single
    character of more tokens than that is a passage alone."""
    return pack(counts.units(text, size=size), size, overlap)
