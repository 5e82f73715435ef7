"""What a store holds, to be compared with another of the same input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datastore.documents import Passage
from datastore.store.manifest import read_manifest
from datastore.store.reader import StoreReader
from retriever.api import SearchRequest
from retriever.client import open_store

QUERIES = ("amber basalt", "cedar number77", "delta ember fjord", "number310", "été")


@dataclass(frozen=True)
class Content:
    """What two builds of one input in the same tasks agree on."""

    segments: list[str]
    totals: tuple[int, int, int, int, int]
    """Passages, documents, words, tokens, truncated passages."""
    passages: list[Passage]
    files: dict[str, str]
    """Checksums of those whose bytes depend on the input alone."""
    answers: list[list[tuple[str, int, float]]]
    rejects: str
    counted: tuple[dict[str, int], dict[str, int]]
    """Rejects by reason, and masked places by kind."""


def read_content(store: Path) -> Content:
    manifest = read_manifest(store)
    reader = StoreReader(store)
    passages: list[Passage] = []
    for segment in reader.segments:
        passages += segment.passages.get(list(range(segment.vectors.rows)))
    reader.close()
    answers = []
    retriever = open_store(store)
    for mode in ("hybrid", "dense", "bm25"):
        for query in QUERIES:
            hits = retriever.search(SearchRequest(query, k=15, mode=mode, nprobe=16)).hits
            answers.append([(hit.document_id, hit.chunk_index, hit.score) for hit in hits])
    retriever.close()
    rejects = manifest.rejects.file
    segments = manifest.segments
    return Content(
        [segment.segment_id for segment in segments],
        (
            sum(segment.passages for segment in segments),
            sum(segment.documents for segment in segments),
            sum(segment.words for segment in segments),
            sum(segment.tokens for segment in segments),
            sum(segment.truncated_passages for segment in segments),
        ),
        passages,
        {
            file.path: file.xxh3_128
            for file in manifest.files()
            if file.path.endswith((".f16", ".arrow", ".faiss", ".lists", ".npz", ".keys"))
        },
        answers,
        (store / rejects.path).read_text() if rejects else "",
        (manifest.rejects.by_reason, manifest.masked),
    )
