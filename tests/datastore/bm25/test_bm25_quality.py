"""The published figures of Anserini's BM25 (k1 0.9, b 0.4) on two collections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ir_measures
import pytest
from ir_measures import AP, P, R, nDCG

if TYPE_CHECKING:
    from tests.datastore.bm25.conftest import Collection, MakeIndex


def _measure(collection: Collection, make_index: MakeIndex, measures: list[Any]) -> dict[Any, float]:
    document_ids = list(collection.passages)
    index = make_index(list(collection.passages.values()))
    run = {}
    for query_id in collection.judgments:
        rows, scores = index.search(collection.queries[query_id], 1000)
        run[query_id] = {document_ids[row]: float(score) for row, score in zip(rows, scores, strict=True)}
    measured: dict[Any, float] = ir_measures.calc_aggregate(measures, collection.judgments, run)
    return measured


def test_scifact(scifact: Collection, make_index: MakeIndex) -> None:
    measured = _measure(scifact, make_index, [nDCG @ 10, R @ 100])
    assert measured[nDCG @ 10] == pytest.approx(0.6789, abs=0.001)
    assert measured[R @ 100] == pytest.approx(0.9253, abs=0.001)


def test_cacm(cacm: Collection, make_index: MakeIndex) -> None:
    measured = _measure(cacm, make_index, [AP, P @ 30])
    assert measured[AP] == pytest.approx(0.3123, abs=0.003)
    assert measured[P @ 30] == pytest.approx(0.1942, abs=0.003)
