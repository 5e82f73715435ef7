"""A query's way into Lucene and its hits' way out, with few crossings of the bridge."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datastore.bm25.jvm import java_class, java_longs, lucene
from datastore.filters.survivors import Survivors

_WORD_BYTES = 8

_KEPT_TERMS = 1 << 14
"""Term queries kept: making one crosses the bridge twice, which costs more than a term's part of a search."""


@functools.lru_cache(_KEPT_TERMS)
def _term_query(field: str, term: str) -> Any:
    return lucene("search.TermQuery")(lucene("index.Term")(field, term))


def bag_of_words(field: str, weights: Mapping[str, float]) -> Any:
    """The Lucene query for passages with any of these terms; a passage scores the weighted sum over its terms."""
    builder = lucene("search.BooleanQuery$Builder")()
    should = lucene("search.BooleanClause$Occur").SHOULD
    boost_query = lucene("search.BoostQuery")
    for term, weight in weights.items():
        query = _term_query(field, term)
        builder.add(query if weight == 1.0 else boost_query(query, weight), should)
    return builder.build()


def best_accepted(searcher: Any, query: Any, k: int, accept: Sequence[Survivors]) -> Any:
    """The best hits (ScoreDoc[]) among the passages that are accepted, as `IndexSearcher.search` finds them among all.

    Lucene's own loop over its leaves, with accepted documents in the place of those that are not deleted: scores and
    statistics are those of the unfiltered search, and passages that cannot be among the best are skipped as in it.

    Args:
        searcher: over a reader whose leaves are those of the segments, in order.
        accept: for each segment with passages, in that order. A bitmap crosses the bridge at every search: 7 us for
            131,072 rows, too little to keep it there.
    """
    collector = lucene("search.TopScoreDocCollector").create(k, k)
    weight = searcher.createWeight(searcher.rewrite(query), lucene("search.ScoreMode").TOP_SCORES, 1.0)
    no_more = lucene("search.DocIdSetIterator").NO_MORE_DOCS
    for leaf, survivors in zip(searcher.getIndexReader().leaves(), accept, strict=True):
        scorer = weight.bulkScorer(leaf) if survivors.count else None
        if scorer is not None:
            scorer.score(collector.getLeafCollector(leaf), _accepted(survivors), 0, no_more)
    return collector.topDocs().scoreDocs


def _accepted(survivors: Survivors) -> Any:
    """Lucene's Bits, or None for all."""
    if survivors.count == survivors.passages:
        return None
    words = np.zeros(-(-survivors.passages // (8 * _WORD_BYTES)), "<i8")
    words.view(np.uint8)[: survivors.bitmap.size] = survivors.bitmap
    return lucene("util.FixedBitSet")(java_longs(words), survivors.passages)


class HitReader:
    """Reads Lucene's ScoreDoc[] as two arrays. Java gathers each field, so the bridge is not crossed for every hit."""

    def __init__(self) -> None:
        fields = java_class("java.lang.invoke.MethodHandles").publicLookup()
        as_function = java_class("java.lang.invoke.MethodHandleProxies").asInterfaceInstance
        hit = lucene("search.ScoreDoc")
        row = fields.findGetter(hit, "doc", java_class("java.lang.Integer").TYPE)
        score = fields.findGetter(hit, "score", java_class("java.lang.Float").TYPE)
        self._row = as_function(java_class("java.util.function.ToLongFunction"), row)
        self._score = as_function(java_class("java.util.function.ToDoubleFunction"), score)

    def read(self, hits: Any) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Document numbers int64 [n] and scores float32 [n] of n hits, in their order."""
        stream = java_class("java.util.Arrays").stream
        rows = np.array(stream(hits).mapToLong(self._row).toArray(), dtype=np.int64)
        scores = np.array(stream(hits).mapToDouble(self._score).toArray(), dtype=np.float32)
        return rows, scores
