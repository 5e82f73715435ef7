"""BM25 of a part of a collection with the statistics of the whole.

Lucene scores a passage d for a query q (Robertson and Zaragoza 2009, without the constant factor k1 + 1) as

    sum over t in q of  idf(t) * tf / (tf + k1 * (1 - b + b * |d| / avgdl)),  idf(t) = ln(1 + (N - n + 0.5) / (n + 0.5))

and takes N, n and avgdl from the index at hand. To score with those of a larger collection, nothing in Lucene changes:
each term is boosted by idf_whole / idf_part, and with r = avgdl_part / avgdl_whole

    k1' = k1 * (1 - b + b * r),    b' = b * r / (1 - b + b * r)

make k1' * (1 - b' + b' * |d| / avgdl_part) = k1 * (1 - b + b * |d| / avgdl_whole). This is exact but for rounding:
Lucene takes 1 - b' in float32, so scores lose digits where b' is close to 1, that is, where b is and where the
passages of the part are hundreds of times longer than those of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from datastore.bm25.statistics import Bm25Statistics
from datastore.errors import InvalidArgument


def score_as_part(
    weights: Mapping[str, float], k1: float, b: float, part: Bm25Statistics, whole: Bm25Statistics
) -> tuple[dict[str, float], float, float]:
    """How to search an index so that it scores as a part of a larger collection.

    Args:
        weights: term of the query -> weight.
        k1, b: the parameters wanted.
        part: what the index itself counts for these terms.
        whole: what the collection counts for them.

    Returns:
        The weights of the terms that occur in the part, k1' and b'.

    Raises:
        InvalidArgument: `whole` lacks a term or contradicts itself, so it is not of this query.
    """
    scaled = {}
    for term, weight in weights.items():
        frequency = whole.document_frequencies.get(term)
        if frequency is None or not 0 <= frequency <= whole.document_count:
            raise _not_of_this_query(f"{frequency} of {whole.document_count} passages contain {term[:50]!r}")
        if in_part := part.document_frequencies[term]:
            scaled[term] = weight * _idf(whole.document_count, frequency) / _idf(part.document_count, in_part)
    if not scaled:
        return scaled, k1, b
    if whole.total_terms <= 0:
        raise _not_of_this_query(f"there are {whole.total_terms} terms, of which this part has {part.total_terms}")
    ratio = part.average_length / whole.average_length
    scale = 1.0 - b + b * ratio
    return scaled, k1 * scale, b * ratio / scale


def _idf(document_count: int, document_frequency: int) -> float:
    """As Lucene computes it, rounding included."""
    ratio = (document_count - document_frequency + 0.5) / (document_frequency + 0.5)
    return float(np.float32(math.log(1.0 + ratio)))


def _not_of_this_query(seen: str) -> InvalidArgument:
    return InvalidArgument(
        f"statistics say that {seen}; wanted the collection's counts for each term of the query",
        mend="pass the sum of all shards' statistics for this query",
        field="statistics",
    )
