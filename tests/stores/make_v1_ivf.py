"""Writes a small store of format version 1 with an IVF index and its operating curve, and what it answers.

    python tests/stores/make_v1_ivf.py

Kept for ever like the store of `make_v1`; run it again only while version 1 is unreleased.
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
from datastore.tune import TuneOptions, tune
from retriever.api import SearchRequest
from retriever.client import open_store

HERE = Path(__file__).resolve().parent
STORE = HERE / "v1-ivf-pq4"
EXPECTED = HERE / "v1-ivf-pq4.expected.json"

PLACES = ("quay", "jetty", "lantern room", "boat house", "oil store", "signal mast", "north stair", "cistern")
THINGS = ("rope", "brass lamp", "ledger", "barometer", "spare wick", "fog horn", "copper pipe")
CONFIG: dict[str, dict[str, Any]] = {
    "encoder": {"name": "hashing"},
    "segment": {"passages": 140},
    "index": {"kind": "ivf-pq4", "nlist": 8, "pq_m": 16},
}
QUERIES = tuple(f"the {thing} by the {place}" for thing, place in zip(THINGS, PLACES, strict=False))
RECALLS = (0.5, 0.9)


def text(number: int) -> str:
    place, thing = PLACES[number % len(PLACES)], THINGS[number % len(THINGS)]
    return (
        f"Inventory {number}: the {thing} is kept at the {place}, shelf {number % 13}, checked in week {number % 52}."
    )


def answers(store: Path) -> list[dict[str, Any]]:
    """Every query for each recall, with its hits."""
    retriever = open_store(store)
    found = []
    for query in QUERIES:
        for recall in RECALLS:
            hits = retriever.search(SearchRequest(query, k=5, mode="dense", recall=recall)).hits
            found.append(
                {
                    "query": query,
                    "mode": "dense",
                    "recall": recall,
                    "hits": [[hit.document_id, hit.chunk_index, round(hit.score, 6), hit.text] for hit in hits],
                }
            )
    retriever.close()
    return found


def main() -> None:
    shutil.rmtree(STORE, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        source = Path("inventory.jsonl")
        source.write_text("".join(json.dumps({"_id": f"i{n}", "text": text(n)}) + "\n" for n in range(280)))
        build([str(source)], STORE, load_config(None, CONFIG))
        tune(STORE, TuneOptions(queries=100, ks=(10,)), texts=[f"the {a} by the {b}" for a in THINGS for b in PLACES])
    (STORE / "write.lock").unlink()
    EXPECTED.write_text(json.dumps(answers(STORE), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
