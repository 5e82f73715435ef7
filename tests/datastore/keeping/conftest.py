"""Datastores that are changed, and what searches of them answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from datastore.build import build
from datastore.config import load_config
from datastore.encoders.hashing import HashingEncoder
from retriever.api import Mode, SearchRequest
from retriever.local_shard import LocalShard
from retriever.membership import Membership
from retriever.router import Router

Record = dict[str, Any]
Hits = list[list[tuple[str, int, float]]]

WORDS = ("amber", "basalt", "cedar", "delta", "ember", "fjord", "garnet", "heath", "island", "juniper", "kelp", "loam")


class Stores:
    """Makes, opens and asks them."""

    queries = ("amber basalt", "cedar number77", "delta ember fjord", "heath island juniper kelp", "number123 loam")
    segment_passages = 400
    kinds: ClassVar[dict[str, dict[str, Any]]] = {
        "flat": {"kind": "flat"},
        "ivf-pq": {"kind": "ivf-pq", "nlist": 8, "pq_m": 16, "tune_queries": 20},
        "ivf-pq4": {"kind": "ivf-pq4", "nlist": 8, "tune_queries": 20},
        "ivf-rabitq": {"kind": "ivf-rabitq", "nlist": 8, "tune_queries": 20},
    }
    all_lists: ClassVar[dict[str, Any]] = {"nprobe": 8, "candidate_depth": 5000}
    """Where everything is looked at, whatever the kind, order and scores are exact."""

    @staticmethod
    def records(numbers: Iterable[int], words: Sequence[str] = WORDS) -> list[Record]:
        """Documents of one to four passages."""
        found: list[Record] = []
        for i in numbers:
            text = " ".join(words[(i * 7 + j * j) % len(words)] for j in range(5 + i % 23))
            found.append({"_id": f"d{i}", "title": f"Item {i}", "text": f"{text} number{i}", "year": 1900 + i % 100})
        return found

    @staticmethod
    def write(path: Path, documents: Iterable[Record]) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(record) + "\n" for record in documents))
        return str(path)

    def build(self, folder: Path, documents: Iterable[Record], kind: str = "flat", **sections: dict[str, Any]) -> Path:
        source = self.write(folder / "items.jsonl", documents)
        settings: dict[str, dict[str, Any]] = {
            "encoder": {"name": "hashing"},
            "index": self.kinds[kind],
            "chunk": {"words": 8},
            "segment": {"passages": self.segment_passages},
        }
        build([source], folder / "store", load_config(None, settings | sections))
        return folder / "store"

    @staticmethod
    @contextmanager
    def opened(store: Path, shards: int = 1) -> Iterator[Router]:
        router = Router(Membership([LocalShard(store, (i, shards)) for i in range(shards)]), HashingEncoder)
        try:
            yield router
        finally:
            router.close()

    def answers(self, store: Path, mode: Mode, shards: int = 1, **more: Any) -> Hits:
        with self.opened(store, shards) as router:
            return self.answers_of(router, mode, **more)

    def answers_of(self, router: Router, mode: Mode, **more: Any) -> Hits:
        found = [router.search(SearchRequest(query, k=15, mode=mode, **more)) for query in self.queries]
        return [[(hit.document_id, hit.chunk_index, hit.score) for hit in response.hits] for response in found]


@pytest.fixture(scope="session")
def stores() -> Stores:
    return Stores()
