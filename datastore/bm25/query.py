"""A query's way into Lucene and its hits' way out, with few crossings of the bridge."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datastore.bm25.jvm import java_class, lucene

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
