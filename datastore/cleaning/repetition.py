"""Gopher's rules on repetition (Rae et al. 2021, "Scaling Language Models", table A1).

A duplicate is an occurrence after the first. Lines and paragraphs (between blank lines) count without white space
around them, words are runs of other characters than white space, and shares of characters in n-grams leave it out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datastore.cleaning.settings import RepetitionSettings
from datastore.cleaning.words import Hashes, WordHasher, ngrams
from datastore.sources.rejects import RefusedError

_PARAGRAPHS = re.compile(r"\n\s*\n")


def duplicate_shares(parts: Sequence[str]) -> tuple[float, float]:
    """Of non-blank `parts`: the share of duplicates, and the share of characters in them."""
    stripped = [part for part in map(str.strip, parts) if part]
    seen: set[str] = set()
    duplicates = characters = 0
    for part in stripped:
        if part in seen:
            duplicates += 1
            characters += len(part)
        seen.add(part)
    total = sum(map(len, stripped))
    return duplicates / max(len(stripped), 1), characters / max(total, 1)


def top_ngram_share(words: Hashes, lengths: NDArray[np.int64], n: int) -> float:
    """Share of the characters that is in the `n`-gram that comes most often; 0 if none comes twice.

    Args:
        words: uint64[words], their hashes.
        lengths: int64[words], their characters.
    """
    grams = ngrams(words, n)
    if not len(grams):
        return 0.0
    _, first, counts = np.unique(grams, return_index=True, return_counts=True)
    most = counts.max()
    if most < 2:
        return 0.0
    ends = np.concatenate(([0], np.cumsum(lengths)))
    starts = first[counts == most]
    longest = (ends[starts + n] - ends[starts]).max()
    return min(float(longest * most / ends[-1]), 1.0)


def duplicate_ngram_share(words: Hashes, lengths: NDArray[np.int64], n: int) -> float:
    """Share of the characters that is in `n`-grams that came before; each character counts once. Arguments as above."""
    grams = ngrams(words, n)
    if not len(grams):
        return 0.0
    _, first = np.unique(grams, return_index=True)
    repeated = np.ones(len(grams), bool)
    repeated[first] = False
    starts = np.flatnonzero(repeated)
    edges = np.zeros(len(words) + 1, np.int64)
    np.add.at(edges, starts, 1)
    np.add.at(edges, starts + n, -1)
    return float(lengths[np.cumsum(edges[:-1]) > 0].sum() / lengths.sum())


def check_repetition(text: str, settings: RepetitionSettings, hasher: WordHasher) -> None:
    """Raise RefusedError at the first rule that `text` breaks."""
    limits = (
        ("lines", text.splitlines(), settings.max_duplicate_lines, settings.max_duplicate_line_characters),
        (
            "paragraphs",
            _PARAGRAPHS.split(text),
            settings.max_duplicate_paragraphs,
            settings.max_duplicate_paragraph_characters,
        ),
    )
    for name, parts, max_parts, max_characters in limits:
        of_parts, of_characters = duplicate_shares(parts)
        if of_parts > max_parts:
            raise RefusedError("repeated lines", f"{of_parts:.3f} of the {name} came before; at most {max_parts:g} may")
        if of_characters > max_characters:
            detail = (
                f"{of_characters:.3f} of the characters are in {name} that came before; at most {max_characters:g} may"
            )
            raise RefusedError("repeated lines", detail)
    words = text.split()
    hashes = hasher.hash(words)
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    for n in range(2, 5):
        share, limit = top_ngram_share(hashes, lengths, n), settings.top(n)
        if share > limit:
            detail = f"{share:.3f} of the characters are in one repeated {n}-gram; at most {limit:g} may be"
            raise RefusedError("repeated n-grams", detail)
    for n in range(5, 11):
        share, limit = duplicate_ngram_share(hashes, lengths, n), settings.duplicate(n)
        if share > limit:
            detail = f"{share:.3f} of the characters are in {n}-grams that came before; at most {limit:g} may be"
            raise RefusedError("repeated n-grams", detail)
