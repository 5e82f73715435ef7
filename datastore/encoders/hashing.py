"""A small deterministic encoder that needs no model: for tests, for wiring checks, and as a floor in comparisons.

Feature hashing (Weinberger et al., 2009): every word and every letter trigram of a word adds +1 or -1 to one dimension,
both chosen by a hash; the vector is scaled to length 1. It sees shared words and spellings, not meanings.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

from datastore.encoders.fingerprint import EncoderFingerprint

DIMENSION = 256
_WORD = re.compile(r"\w+")
_WORD_WEIGHT = 3.0


class HashingEncoder:
    """Implements `datastore.encoders.registry.Encoder`."""

    fingerprint = EncoderFingerprint(
        name="hashing",
        revision="1",
        dimension=DIMENSION,
        pooling="sum",
        normalized=True,
        query_prompt="",
        passage_prompt="",
        max_tokens=0,
    )

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encode(texts)

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encode(texts)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(_WORD.findall(text)) for text in texts]

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), DIMENSION), np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold()):
                _add(vector, word, _WORD_WEIGHT)
                padded = f"^{word}$"
                for start in range(len(padded) - 2):
                    _add(vector, padded[start : start + 3], 1.0)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        np.divide(vectors, lengths, out=vectors, where=lengths > 0)
        return vectors


def _add(vector: NDArray[np.float32], feature: str, weight: float) -> None:
    digest = xxhash.xxh3_64_intdigest(feature.encode(errors="replace"))
    vector[(digest >> 1) % DIMENSION] += weight if digest & 1 else -weight
