"""The numbers that BM25 needs of a collection, addable over its parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bm25Statistics:
    """What BM25 must know of a collection to score a query.

    Parts of a collection add up: with the sum over all shards, each shard scores as if it held the whole.
    """

    document_count: int
    """Passages that have at least one term (Lucene's docCount)."""
    total_terms: int
    """Sum of the passages' lengths in terms (Lucene's sumTotalTermFreq)."""
    document_frequencies: Mapping[str, int]
    """Analysed term -> number of passages that contain it. A term that occurs nowhere has 0."""

    @property
    def average_length(self) -> float:
        return self.total_terms / self.document_count if self.document_count else 0.0

    @staticmethod
    def merge(parts: Iterable[Bm25Statistics]) -> Bm25Statistics:
        """The statistics of the union of disjoint parts."""
        count = total = 0
        frequencies: dict[str, int] = {}
        for part in parts:
            count += part.document_count
            total += part.total_terms
            for term, frequency in part.document_frequencies.items():
                frequencies[term] = frequencies.get(term, 0) + frequency
        return Bm25Statistics(count, total, frequencies)
