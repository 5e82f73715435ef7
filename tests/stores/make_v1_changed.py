"""Writes a small store of format version 1 that was added to, updated and deleted from, and what it answers.

    python tests/stores/make_v1_changed.py

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
from datastore.keeping.addition import add
from datastore.keeping.deletion import delete
from retriever.api import SearchRequest
from retriever.client import open_store

HERE = Path(__file__).resolve().parent
STORE = HERE / "v1-changed"
EXPECTED = HERE / "v1-changed.expected.json"

BIRDS = ("gannet", "puffin", "razorbill", "kittiwake", "fulmar", "shag", "tern", "skua")
WINDS = ("north gale", "southerly breeze", "flat calm", "westerly squall", "easterly fog")
CONFIG: dict[str, dict[str, Any]] = {
    "encoder": {"name": "hashing"},
    "segment": {"passages": 90},
    "index": {"kind": "ivf-rabitq", "nlist": 4, "tune_queries": 0},
}
QUERIES = ("puffin in a north gale", "terns and flat calm", "albatross", "log 17")
BUILT = 260


def log(number: int) -> dict[str, Any]:
    bird, wind = BIRDS[number % len(BIRDS)], WINDS[number % len(WINDS)]
    return {"_id": f"log-{number}", "text": f"Log {number}: a {bird} was seen, {wind}.", "day": number}


def answers(store: Path) -> list[dict[str, Any]]:
    """Every query in every mode, with its hits."""
    retriever = open_store(store)
    found = []
    for query in QUERIES:
        for mode in ("hybrid", "dense", "bm25"):
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
        source = Path("logs.jsonl")

        def write(*records: dict[str, Any]) -> list[str]:
            source.write_text("".join(json.dumps(record) + "\n" for record in records))
            return [str(source)]

        build(write(*(log(number) for number in range(BUILT))), STORE, load_config(None, CONFIG))
        add(STORE, write(*(log(number) for number in range(BUILT, BUILT + 8)), log(3)))
        changed = {**log(17), "text": "Log 17: an albatross was seen, mistaken for a gannet before."}
        add(STORE, write(changed), replace_known=True)
        delete(STORE, where="day >= 100 and day < 200")
    (STORE / "write.lock").unlink()
    EXPECTED.write_text(json.dumps(answers(STORE), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
