"""What a store of the crash campaign holds, as a user sees it: each document's version, by both ways of search."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from datastore.errors import NotFound
from datastore.store.checksums import hash_bytes
from datastore.store.manifest import read_manifest
from retriever.api import MAX_K, Mode, Retriever, SearchRequest
from retriever.client import open_store

MODES: tuple[Mode, ...] = ("bm25", "dense")
COMMON = "harbour"
"""A word of every document, so that one query finds all of them."""
_ALL_LISTS = 1 << 20
_STABLE = (".f16", ".arrow", ".faiss", ".lists", ".npz")

State = Mapping[str, int]
"""Document id -> version."""

_WORDS = ("amber", "basalt", "cedar", "delta", "ember", "fjord", "garnet")


def record(number: int, version: int) -> str:
    """A line of JSON Lines: its text says what it is."""
    words = " ".join(_WORDS[(number * j + version) % len(_WORDS)] for j in range(1, 9))
    text = f"{COMMON} document{number} version{version} {words}"
    return json.dumps({"_id": f"d{number}", "text": text, "year": 1900 + number % 100}) + "\n"


def contents(retriever: Retriever, mode: Mode) -> tuple[int, dict[str, int]]:
    """(generation, state): every document that a search finds. A document found twice is under `twice NAME`."""
    nprobe = _ALL_LISTS if mode == "dense" else None
    depth = MAX_K if mode == "dense" else None
    response = retriever.search(SearchRequest(COMMON, MAX_K, mode, nprobe=nprobe, candidate_depth=depth))
    state: dict[str, int] = {}
    for hit in response.hits:
        number, version = (word.strip("abcdefghijklmnopqrstuvwxyz") for word in hit.text.split()[1:3])
        name = hit.document_id if hit.document_id == f"d{number}" else f"{hit.document_id} with the text of d{number}"
        state[f"twice {name}" if name in state else name] = int(version)
    return response.generation, state


def digest(state: State) -> str:
    return hash_bytes(json.dumps(sorted(state.items())).encode())


def read_state(store: Path) -> tuple[int, dict[str, int]] | None:
    """(generation, state) of a store; None where there is none. Both ways of search must agree.

    Raises:
        AssertionError: they do not.
    """
    try:
        with closing(open_store(store)) as retriever:
            (generation, lexical), (_, dense) = (contents(retriever, mode) for mode in MODES)
    except NotFound:
        return None
    assert lexical == dense, f"BM25 finds {len(lexical)} documents, vectors {len(dense)}"
    return generation, lexical


def rankings(store: Path) -> list[list[tuple[str, float]]]:
    """(document id, score) of some queries: the same of two stores that hold the same."""
    ways: tuple[tuple[Mode, int | None, int | None], ...] = (("bm25", None, None), ("dense", _ALL_LISTS, MAX_K))
    with closing(open_store(store)) as retriever:
        return [
            [
                (hit.document_id, round(hit.score, 5))
                for hit in retriever.search(SearchRequest(query, 20, mode, nprobe=nprobe, candidate_depth=depth)).hits
            ]
            for query in ("amber basalt", f"{COMMON} fjord garnet", "document7 version1")
            for mode, nprobe, depth in ways
        ]


def stable_files(store: Path) -> dict[str, str]:
    """Path -> checksum of the files whose bytes follow from the input alone."""
    return {file.path: file.xxh3_128 for file in read_manifest(store).files() if file.path.endswith(_STABLE)}
