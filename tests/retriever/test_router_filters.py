"""Filters through the whole way: every mode, any number of shards, against the unfiltered answer filtered in Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from datastore.errors import InvalidArgument
from retriever.api import Mode, SearchRequest
from retriever.router import Router

Sharded = Callable[[Path, int], Router]
EVERYTHING = 10_000


@pytest.mark.parametrize("shards", [1, 2, 7])
@pytest.mark.parametrize("mode", ["dense", "bm25"])
@pytest.mark.parametrize(
    "where", ["starts_with(document_id, 'text-1')", "chunk_index = 0 and not document_id = 'text-5'"]
)
def test_a_filter_takes_away_and_changes_nothing_else(
    flat_store: Path, sharded: Sharded, shards: int, mode: Mode, where: str
) -> None:
    router = sharded(flat_store, shards)
    for query in ("badens konor", "granite harbour lantern"):
        everything = router.search(SearchRequest(query, EVERYTHING, mode)).hits
        prefix = where.startswith("starts_with")
        wanted = [
            hit
            for hit in everything
            if (
                hit.document_id.startswith("text-1") if prefix else hit.chunk_index == 0 and hit.document_id != "text-5"
            )
        ]
        found = router.search(SearchRequest(query, 40, mode, where=where)).hits
        assert [(hit.name, hit.score) for hit in found] == [(hit.name, hit.score) for hit in wanted[:40]]
        assert len(found) == min(40, len(wanted)) > 10


def test_hybrid_finds_only_what_passes(flat_store: Path, sharded: Sharded) -> None:
    one, several = (
        sharded(flat_store, count).search(
            SearchRequest("granite badens", 50, where="starts_with(document_id, 'text-2')")
        )
        for count in (1, 7)
    )
    assert len(one.hits) == 50
    assert {hit.document_id[:6] for hit in one.hits} == {"text-2"}
    assert {hit.document_id[:6] for hit in several.hits} == {"text-2"}


def test_nothing_passes(flat_store: Path, sharded: Sharded) -> None:
    modes: tuple[Mode, ...] = ("hybrid", "dense", "bm25")
    for mode in modes:
        response = sharded(flat_store, 2).search(SearchRequest("granite", 10, mode, where="no_such_field = 3"))
        assert response.hits == ()
        assert response.coverage.complete


def test_a_filter_that_cannot_be_read(flat_store: Path, sharded: Sharded) -> None:
    with pytest.raises(InvalidArgument) as caught:
        sharded(flat_store, 2).search(SearchRequest("granite", where="year >"))
    assert caught.value.field == "where"
