"""A small datastore that is added to, and shards over it that move."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from datastore.encoders.hashing import HashingEncoder
from datastore.keeping.addition import add
from retriever.live_shard import LiveShard
from retriever.router import Router
from retriever.shard import Bm25Query, DenseQuery, Shard, ShardQuery

TWIN = "granite harbour lantern under a copper sky"
WORDS = ["sky", "lantern", "copper", "harbour", "marble", "willow", "anchor", "ember"]
Route = Callable[[Sequence[Shard]], Router]
Eventually = Callable[[Callable[[], bool]], None]
INDEXES = {
    "flat": {"kind": "flat"},
    "ivf-pq4": {"kind": "ivf-pq4", "nlist": 16, "pq_m": 16, "tune_queries": 0},
    "ivf-pq": {"kind": "ivf-pq", "nlist": 16, "pq_m": 16, "tune_queries": 0},
}


def records(first: int, count: int) -> str:
    chance = random.Random(first)
    texts = (" ".join(chance.choices(WORDS, k=chance.randint(3, 9))) for _ in range(count))
    return "".join(json.dumps({"_id": f"n{first + i}", "text": text}) + "\n" for i, text in enumerate(texts))


@pytest.fixture(scope="module", params=INDEXES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, build_store: Callable[..., Path]) -> Callable[[str], Path]:
    """`built(kind)`: a store of 1,200 documents in several segments."""
    stores: dict[str, Path] = {}
    source = tmp_path_factory.mktemp("records") / "records.jsonl"
    source.write_text(records(0, 1200))

    def make(kind: str) -> Path:
        if kind not in stores:
            stores[kind] = build_store(source, chunk={"words": 0}, segment={"passages": 400}, index=INDEXES[kind])
        return stores[kind]

    return make


@pytest.fixture
def store(built: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(built("flat"), tmp_path / "store"))


@pytest.fixture
def more(tmp_path: Path) -> Callable[[Path, int, int], None]:
    """`more(store, first, count)`: adds so many documents."""

    def write(store: Path, first: int, count: int) -> None:
        source = tmp_path / f"more-{first}.jsonl"
        source.write_text(records(first, count))
        add(store, [str(source)], encoder=HashingEncoder())

    return write


@pytest.fixture
def live() -> Iterator[Callable[..., LiveShard]]:
    """`live(store, …)`: a shard that moves when it is told to, or by itself; closed at the end of the test."""
    opened: list[LiveShard] = []

    def make(store: Path, shard: tuple[int, int] = (0, 1), refresh_s: float = 0.0, linger_s: float = 10.0) -> LiveShard:
        opened.append(LiveShard(store, shard, refresh_s=refresh_s, linger_s=linger_s))
        return opened[-1]

    yield make
    for shard in opened:
        shard.close()


def questions() -> list[ShardQuery]:
    vector = HashingEncoder().encode_queries(["lantern harbour"])[0]
    return [
        ShardQuery(20, DenseQuery(vector, 400, 16)),
        ShardQuery(20, bm25=Bm25Query("lantern harbour")),
        ShardQuery(20, DenseQuery(vector, 400, 16), Bm25Query("sky marble"), where="document_id != 'n7'", passages=9),
    ]


def same_answers(shard: Shard, fresh: Shard) -> None:
    for query in questions():
        mine, wanted = shard.search(query), fresh.search(query)
        assert replace(mine, generations=wanted.generations) == wanted
