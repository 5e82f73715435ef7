"""Passages of a number of the encoder's tokens, and how those are counted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from datastore.chunking.spans import Unit, pack

CountTokens = Callable[[Sequence[str]], list[int]]
"""`Encoder.count_tokens`."""

_LONG = 128
_WORD = re.compile(r"\S+")
_PART = re.compile(rf"\S{{1,{_LONG}}}")
_PARTS_AT_ONCE = 4096
_MAX_KNOWN = 1 << 20
"""Words of at most 128 characters whose counts are kept: some 100 MB."""


class TokenCounts:
    """Counts tokens word by word, each different word once: faster than the tokenizer, since text repeats words.

    The count of a text is the sum over its words, without the marks that an encoder puts around a text. For tokenizers
    that split at white space first, WordPiece and most others, that is exact; others may differ by a token here and
    there.
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
        words = _WORD.findall(text)
        long = [word for word in words if len(word) > _LONG]  # seldom the same one twice, and too large to keep
        count = sum(self._count_tokens(long)) - self._marks * len(long) if long else 0
        return count + sum(self.of_words([word for word in words if len(word) <= _LONG] if long else words))

    def units(self, text: str, size: int) -> Iterator[Unit]:
        """The words of the text with their tokens; one of more than `size`, or of more than 128 characters, in parts.

        The parts of a word together may have other tokens than the word.
        """
        parts = _PART.finditer(text)
        while batch := list(islice(parts, _PARTS_AT_ONCE)):
            for part, count in zip(batch, self.of_words([part.group() for part in batch]), strict=True):
                if count <= size:
                    yield Unit(part.start(), part.end(), count)
                else:
                    yield from self._halves(text, part.start(), part.end(), size)

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
    last_start = last_end = -1
    for packed_start, packed_end in pack(counts.units(text, size), size, overlap):
        cut = packed_start <= last_start  # the one before was, within what the two have in common
        rest = packed_end - len(text[last_end:packed_end].lstrip()) if cut else packed_start
        for start, end in _fitting(text, rest, packed_end, counts, size):
            if end > last_end:  # else all of it was in the passage before
                yield start, end
                last_start, last_end = start, end


def _fitting(text: str, start: int, end: int, counts: TokenCounts, size: int) -> Iterator[tuple[int, int]]:
    """A slice, cut in two as often as it takes for its tokens to be at most `size`: parts of a word may have been put
    together in it, and have more tokens than by themselves."""
    if end - start == 1 or counts.of_text(text[start:end]) <= size:
        yield start, end
        return
    middle = (start + end) // 2
    yield from _fitting(text, start, start + len(text[start:middle].rstrip()), counts, size)
    yield from _fitting(text, end - len(text[middle:end].lstrip()), end, counts, size)
