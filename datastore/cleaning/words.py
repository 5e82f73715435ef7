"""Text as words and hashes, for whatever compares texts: duplicates and contamination."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import xxhash
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

_SINGLE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Scripts that write no spaces between words: Thai, Lao, Burmese, Khmer, Kana, Han."""
_WORD = re.compile(rf"[{_SINGLE}]|[^\W{_SINGLE}]+")
_MAX_CACHED_WORDS = 1 << 18
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def split_words(text: str) -> list[str]:
    """The words of `text`, case-folded and NFKC-normalised, without punctuation and white space.

    A word is a run of letters, digits and underscores; in scripts without spaces each character is a word.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _WORD.findall(text.casefold())


class WordHasher(dict[str, int]):
    """From words to 64-bit hashes (XXH3), the same in every process; those of frequent words are remembered."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _MAX_CACHED_WORDS:
            self.clear()
        value = self[word] = xxhash.xxh3_64_intdigest(word.encode(errors="surrogatepass"))
        return value

    def hash(self, words: list[str]) -> Hashes:
        """uint64[len(words)]."""
        return np.fromiter(map(self.__getitem__, words), np.uint64, len(words))


def ngrams(words: Hashes, n: int) -> Hashes:
    """Hashes of the runs of `n` words, uint64[max(len(words) - n + 1, 0)], in their order."""
    count = len(words) - n + 1
    if count <= 0:
        return np.empty(0, np.uint64)
    combined = words[:count].copy()
    for i in range(1, n):
        combined *= _MULTIPLIER
        combined += words[i : count + i]
    return mix(combined)


def mix(values: Hashes) -> Hashes:
    """SplitMix64's finalizer (Steele et al. 2014): every bit of the input changes each of the output's by half."""
    values = values ^ (values >> np.uint64(30))
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values
