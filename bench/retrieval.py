"""Retrieval quality on a judged collection, measured by ir_measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import ir_measures
from ir_measures import AP, P, R, nDCG

from bench.beir import Judged
from datastore.errors import InvalidArgument
from retriever.api import Retriever, SearchRequest

MEASURES = (nDCG @ 10, R @ 100, AP, P @ 30)
DEPTH = 1000
"""Passages retrieved for a query, as is usual for average precision."""

Run = dict[str, dict[str, float]]
"""Query id -> document id -> score."""


def retrieve(
    retriever: Retriever,
    queries: Mapping[str, str],
    request: SearchRequest,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Run:
    """Search every query as `request` says; a document has the score of its best passage. Every query has an entry."""
    run: Run = {}
    for done, (query_id, text) in enumerate(queries.items(), 1):
        documents: dict[str, float] = {}
        if text.strip():
            for hit in retriever.search(replace(request, query=text)).hits:
                # Measures order a run by score, which is not the order of hits chosen by marginal relevance.
                documents.setdefault(hit.document_id, hit.score if request.mmr_lambda is None else 1.0 / hit.rank)
        run[query_id] = documents
        on_progress(done)
    return run


def measure(judged: Judged, run: Run) -> dict[str, float]:
    """Means over all judged queries, by ir_measures' names; a query without results scores 0."""
    results = ir_measures.calc_aggregate(MEASURES, judged.qrels, run)
    return {str(measure): float(results[measure]) for measure in MEASURES}


def write_run(path: Path, run: Run, tag: str) -> None:
    """Write a TREC run: query id, Q0, document id, rank, score, tag.

    Raises:
        InvalidArgument: the file cannot be written, or an id has a space, which the format cannot hold.
    """
    for name in [*run, *(document_id for documents in run.values() for document_id in documents)]:
        if name.split() != [name]:
            raise InvalidArgument(
                f"the id {name!r} has a space; a TREC run cannot hold it", mend="leave the run out", field="run"
            )
    try:
        with path.open("w", encoding="utf-8") as file:
            for query_id, documents in run.items():
                for rank, (document_id, score) in enumerate(documents.items(), 1):
                    file.write(f"{query_id} Q0 {document_id} {rank} {score!r} {tag}\n")
    except OSError as error:
        raise InvalidArgument(
            f"{path} cannot be written: {error.strerror}", mend="choose another file", field="run"
        ) from None
