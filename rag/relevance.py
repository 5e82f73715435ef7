"""Did retrieval find anything to answer from?

A fused rank says nothing about that: the best of ten useless passages is still first. Two things do, and are what is
looked at here: the cosine of question and passage, and the share of the question's content words that the passage has.
"""

from __future__ import annotations

from collections.abc import Sequence

from datastore.errors import InvalidArgument
from rag.words import content_words, share_of
from retriever.api import Hit, Mode

MIN_COSINE = 0.35
"""Default for the modes dense and hybrid, chosen with all-MiniLM-L6-v2. Together with ENOUGH_WORDS it lets through 98%
of XQuAD's and 97% of SciFact's questions over their own collections, and of questions from elsewhere (Natural
Questions, Vaswani, PubMedQA, the other of the two) 1 to 18%. The cosine alone would need 0.30 for as many, and would
let through 3 to 36%. An encoder whose cosines lie elsewhere wants another value."""

ENOUGH_WORDS = 0.75
"""A passage with so large a share of the question's content words is relevant at any cosine: encoders know little of
names and codes."""

MIN_WORDS = 0.5
"""Default for the mode bm25, which has no cosine: measured as above, 95% and 84% against 2 to 31%."""


def check_min_relevance(min_relevance: float | None) -> None:
    """Raise InvalidArgument unless it is None or on the scale of a cosine."""
    if min_relevance is not None and not -1.0 <= min_relevance <= 1.0:  # also refuses NaN
        raise InvalidArgument(
            f"min_relevance is {min_relevance}; it must be between -1 and 1",
            mend="pass a number in that range, or none for the default",
            field="min_relevance",
        )


def any_relevant(question: str, mode: Mode, hits: Sequence[Hit], min_relevance: float | None = None) -> bool:
    """Whether at least one hit is relevant to the question.

    In the modes dense and hybrid a hit is relevant if its `dense_score`, a cosine where the encoder normalizes, is at
    least `min_relevance` (default MIN_COSINE), or if it has the share ENOUGH_WORDS of the question's content words. A
    hit without a dense score lies below the dense candidates, so only its words speak for it. In the mode bm25 the
    share must be at least `min_relevance` (default MIN_WORDS).
    """
    asked = content_words(question)

    def share(hit: Hit) -> float:
        return share_of(asked, content_words(f"{hit.title} {hit.text}"))

    if mode == "bm25":
        least_share = MIN_WORDS if min_relevance is None else min_relevance
        return any(share(hit) >= least_share for hit in hits)
    least_cosine = MIN_COSINE if min_relevance is None else min_relevance
    return any(
        (hit.dense_score is not None and hit.dense_score >= least_cosine) or share(hit) >= ENOUGH_WORDS for hit in hits
    )
