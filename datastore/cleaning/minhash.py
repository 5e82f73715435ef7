"""Sets of shingles, what estimates the Jaccard similarity of two, and keys by which similar sets meet.

A shingle is a run of words; a text with fewer words has one shingle, all of it. Signatures are MinHash's (Broder 1997),
cut into bands (locality-sensitive hashing; Leskovec et al., "Mining of Massive Datasets", 3.4): two texts meet if one
band of theirs is equal. Whether they are similar is then decided on the bottom-k sketches of their shingles, which are
the sets themselves up to 1,024 shingles, so that a pair is found by chance but accepted by its Jaccard similarity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datastore.cleaning.words import Hashes, WordHasher, mix, ngrams, split_words

SKETCH_SHINGLES = 1024
_MISSED = 1e-3
"""Of pairs with just the least similarity, the share that may share no band."""
_BLOCK = 2048
_SEED = 0x5045524741

Shingles = NDArray[np.uint32]
"""Hashes of the distinct shingles of a text, ascending. Of 32 bits: two sets of 1,000 share 0.0002 by accident."""


@dataclass(frozen=True, slots=True)
class Bands:
    """A signature has `count` bands of `rows` minima each."""

    count: int
    rows: int

    def found(self, jaccard: float) -> float:
        """Probability that two sets of that similarity share a band."""
        return float(1 - (1 - jaccard**self.rows) ** self.count)


def choose_bands(min_jaccard: float, permutations: int) -> Bands:
    """The longest bands, so the fewest candidates, that miss at most one in 1,000 pairs of the least similarity."""
    choices = [Bands(permutations // rows, rows) for rows in range(1, permutations + 1)]
    enough = [bands for bands in choices if 1 - bands.found(min_jaccard) <= _MISSED]
    return enough[-1] if enough else choices[0]


def shingles(text: str, words: int, hasher: WordHasher) -> Shingles:
    """The set of runs of `words` words of `text`; of the whole of a shorter text; empty for a text without words."""
    hashes = hasher.hash(split_words(text))
    grams = ngrams(hashes, min(words, len(hashes))) if len(hashes) else hashes
    return np.unique((grams >> np.uint64(32)).astype(np.uint32))


def jaccard(one: Shingles, other: Shingles) -> float:
    """Similarity of two sets by their sketches: exact where each has fewer than 1,024 shingles.

    A full sketch holds the least hashes of its set, so below the lesser of two full ones' last hashes both sets are
    known; their similarity there estimates that of the whole, with a standard error of at most 0.016.
    """
    full = [int(sketch[-1]) for sketch in (one, other) if len(sketch) >= SKETCH_SHINGLES]
    if full:
        one, other = (sketch[: np.searchsorted(sketch, min(full), side="right")] for sketch in (one, other))
    if not len(one) or not len(other):
        return 0.0
    if len(one) > len(other):
        one, other = other, one
    places = np.searchsorted(other, one)
    places[places == len(other)] = 0
    common = int(np.count_nonzero(other[places] == one))
    return common / (len(one) + len(other) - common)


class MinHash:
    """Band keys of sets. The hash functions are strongly universal multiply-shift ones (Dietzfelbinger 1996), fixed."""

    def __init__(self, bands: Bands) -> None:
        self.bands = bands
        random = np.random.default_rng(_SEED)
        a, b = random.integers(0, 1 << 63, (2, bands.count * bands.rows), np.uint64)
        self._a, self._b = (2 * a + 1)[:, None], (2 * b + 1)[:, None]

    def minima(self, values: Shingles) -> NDArray[np.uint32]:
        """uint32[bands x rows] of a set: the least of each hash function's values; all ones for an empty set."""
        minima = np.full(len(self._a), np.iinfo(np.uint64).max, np.uint64)
        for start in range(0, len(values), _BLOCK):
            hashed = self._a * values[start : start + _BLOCK].astype(np.uint64)
            hashed += self._b
            np.minimum(minima, hashed.min(axis=1), out=minima)
        return (minima >> np.uint64(32)).astype(np.uint32)

    def keys(self, minima: NDArray[np.uint32]) -> Hashes:
        """uint64[n, bands] of the minima of `n` sets, uint32[n, bands x rows]; 0 of empty sets."""
        rows = minima.reshape(len(minima), self.bands.count, self.bands.rows).astype(np.uint64)
        keys = np.zeros(rows.shape[:2], np.uint64)
        for i in range(self.bands.rows):
            keys = mix(keys + rows[:, :, i])
        keys[(minima == np.iinfo(np.uint32).max).all(axis=1)] = 0
        return keys
