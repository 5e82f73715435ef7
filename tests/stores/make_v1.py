"""Writes a small store of format version 1, and what it answers, beside this file.

    python tests/stores/make_v1.py

The store is kept in the repository as it was written when version 1 was released: `test_kept_stores` opens it for ever.
Run this again only while version 1 is unreleased; a later format gets a script and a store of its own.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from datastore.build import build
from datastore.config import load_config
from retriever.api import Mode, SearchRequest
from retriever.client import open_store

HERE = Path(__file__).resolve().parent
STORE = HERE / "v1-flat"
EXPECTED = HERE / "v1-flat.expected.json"

DOCUMENTS: list[dict[str, Any]] = [
    {
        "_id": "lamp",
        "title": "The lamp",
        "text": "The keeper trims the wick at dusk. At midnight he winds the clock that turns the lamp. The lens "
        "throws four beams over the water, and a ship far out counts the seconds between them.",
        "year": 1871,
        "lit": True,
    },
    {
        "_id": "fog",
        "title": "Fog",
        "text": "In fog the beam is useless. The horn sounds twice a minute instead.",
        "year": 1880,
    },
    {"_id": "tide", "title": "Tide tables", "text": "High water comes fifty minutes later each day.", "metres": 4.2},
    {"_id": "boat", "title": "The supply boat", "text": "Oil, flour and letters arrive by boat every second Tuesday."},
    {
        "_id": "storm",
        "title": "",
        "text": "The storm of March took the jetty and half of the coal.",
        "year": 1888,
        "lit": False,
    },
    {"_id": "log/7", "title": "Log, page 7", "text": "Wind south-west, force nine. Lamp lit at 17:04."},
    {"_id": "café", "title": "Le café du port", "text": "Les pêcheurs y attendent la marée, naïfs ou non. ☕"},
    {"_id": "灯台", "title": "灯台", "text": "灯台は夜の海を照らす。"},
    {"_id": "bird", "title": "Birds", "text": "Redwings strike the glass on dark October nights.", "metres": -1},
    {
        "_id": "radio",
        "title": "Radio",
        "text": "Since the radio came, the keeper speaks with the harbour at noon.",
        "year": 1931,
    },
    {
        "_id": "end",
        "title": "Automation",
        "text": "The last keeper left, and a relay lights the lamp at dusk.",
        "year": "1988",
    },
    {"_id": "empty", "title": "A title without a text", "text": ""},
]
REJECTED = '{"_id": "torn", "text": "a line that was cut of'
QUERIES = ("keeper lights the lamp at dusk", "high water", "la marée", "灯台", "radio harbour 1931")
MODES: tuple[Mode, ...] = ("dense", "bm25", "hybrid")
CONFIG: dict[str, dict[str, Any]] = {
    "encoder": {"name": "hashing"},
    "chunk": {"words": 20},
    "segment": {"passages": 8},
    "index": {"kind": "flat"},
    "input": {"max_rejected_share": 0.1},
}


def answers(store: Path) -> list[dict[str, Any]]:
    """Every query in every mode, with all its hits."""
    retriever = open_store(store)
    found = []
    for query in QUERIES:
        for mode in MODES:
            hits = retriever.search(SearchRequest(query, k=20, mode=mode)).hits
            found.append(
                {
                    "query": query,
                    "mode": mode,
                    "hits": [[hit.document_id, hit.chunk_index, round(hit.score, 6), hit.text] for hit in hits],
                }
            )
    retriever.close()
    return found


def main() -> None:
    shutil.rmtree(STORE, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        source = Path("lighthouse.jsonl")
        lines = [json.dumps(document, ensure_ascii=False) for document in DOCUMENTS]
        source.write_text("\n".join([*lines, REJECTED]), encoding="utf-8")
        build([str(source)], STORE, load_config(None, CONFIG))
    (STORE / "write.lock").unlink()
    EXPECTED.write_text(json.dumps(answers(STORE), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
