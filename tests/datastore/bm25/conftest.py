from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from datastore.bm25.index import Bm25Index, Bm25Writer

MakeIndex = Callable[..., Bm25Index]


@pytest.fixture
def make_index(tmp_path: Path, request: pytest.FixtureRequest) -> MakeIndex:
    """Writes one segment a list of texts and opens them together."""

    def make(*segments: Sequence[str], analyzer: str = "english") -> Bm25Index:
        paths = []
        for texts in segments:
            paths.append(tmp_path / f"segment-{len(list(tmp_path.iterdir()))}")
            with Bm25Writer(paths[-1], analyzer) as writer:
                writer.add(texts)
        index = Bm25Index(paths, analyzer)
        request.addfinalizer(index.close)
        return index

    return make


@dataclass(frozen=True, slots=True)
class Collection:
    """A BEIR folder in memory."""

    passages: dict[str, str]
    """Document id -> title and text, joined by a space."""
    queries: dict[str, str]
    judgments: dict[str, dict[str, int]]


def _read_collection(name: str) -> Collection:
    root = os.environ.get("PERGAMON_DATA")
    if not root or not Path(root, name).is_dir():
        pytest.skip(f"PERGAMON_DATA does not name a folder with the {name} collection")
    folder = Path(root, name)
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        documents = [json.loads(line) for line in lines]
    passages = {d["_id"]: " ".join(part for part in (d.get("title"), d["text"]) if part) for d in documents}
    with (folder / "queries.jsonl").open(encoding="utf-8") as lines:
        queries = {q["_id"]: q["text"] for q in map(json.loads, lines)}
    judgments: dict[str, dict[str, int]] = {}
    with (folder / "qrels" / "test.tsv").open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows, delimiter="\t"):
            judgments.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    return Collection(passages, queries, judgments)


@pytest.fixture(scope="session")
def cacm() -> Collection:
    return _read_collection("cacm")


@pytest.fixture(scope="session")
def scifact() -> Collection:
    return _read_collection("scifact")
