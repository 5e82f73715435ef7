"""A small datastore in memory, as a `Shard` and as a `Retriever`, and servers of it on loopback."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from datastore.bm25.statistics import Bm25Statistics
from datastore.documents import AttributeValue, Passage, PassageName
from datastore.encoders.fingerprint import EncoderFingerprint
from datastore.errors import NotFound
from retriever.api import Coverage, DatastoreInfo, Hit, Retriever, SearchRequest, SearchResponse
from retriever.rpc.server import RpcServer
from retriever.shard import Bm25Query, Candidate, DenseQuery, Shard, ShardInfo, ShardQuery, ShardResult

WORDS = ("river", "stone", "lamp", "winter", "paper", "señal", "雪", "glass")


@dataclass
class MemoryShard:
    """Thirty passages, searched by brute force. `before` runs first in every call, with the call's timeout."""

    before: Callable[[float | None], None] = lambda timeout_s: None
    name: str = "memory"
    passages: list[Passage] = field(default_factory=list)
    vectors: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 8), np.float32))

    def __post_init__(self) -> None:
        random = np.random.default_rng(7)
        self.vectors = random.standard_normal((30, 8)).astype(np.float16).astype(np.float32)
        for row in range(30):
            text = " ".join(random.choice(WORDS, size=random.integers(3, 12)))
            attributes: dict[str, AttributeValue] = {
                "year": 1990 + row,
                "ratio": row / 7,
                "seen": row % 2 == 0,
                "kind": f"k{row % 3}",
            }
            name = (f"doc-{row // 2}", row % 2)
            self.passages.append(Passage(*name, text, f"Title {row}", "memory", 5, 5 + len(text), attributes))

    def describe(self, timeout_s: float | None = None, generation: int | None = None) -> ShardInfo:
        self.before(timeout_s)
        encoder = EncoderFingerprint("tiny", "1", 8, "mean", True, "query: ", "", 0)
        return ShardInfo("d-1", 3, 0, 1, 30, 30, 15, 8, encoder, "flat", 0.9, 0.4, True, ("s-1",))

    def search(self, query: ShardQuery) -> ShardResult:
        self.before(query.timeout_s)
        dense = self._best(self.vectors @ query.dense.vector, query.k) if query.dense else ()
        bm25 = self._best(self._bm25_scores(query.bm25), query.k) if query.bm25 else ()
        return ShardResult("d-1", 3, 0, 1, 30, dense, bm25)

    def bm25_statistics(
        self, text: str, timeout_s: float | None = None, generation: int | None = None
    ) -> tuple[int, Bm25Statistics]:
        self.before(timeout_s)
        texts = [passage.text.split() for passage in self.passages]
        frequencies = {term: sum(term in words for words in texts) for term in text.split()}
        return 3, Bm25Statistics(len(texts), sum(map(len, texts)), frequencies)

    def _bm25_scores(self, query: Bm25Query) -> NDArray[np.floating]:
        statistics = query.statistics or self.bm25_statistics(query.text)[1]
        k1, b = query.k1 or 0.9, query.b or 0.4
        scores = np.zeros(len(self.passages))
        for row, passage in enumerate(self.passages):
            counts = Counter(passage.text.split())
            norm = k1 * (1 - b + b * counts.total() / statistics.average_length)
            for term in query.text.split():
                df = statistics.document_frequencies[term]
                idf = math.log(1 + (statistics.document_count - df + 0.5) / (df + 0.5))
                scores[row] += idf * counts[term] / (counts[term] + norm)
        return scores

    def fetch(
        self, rows: Sequence[tuple[str, int]], timeout_s: float | None = None, generation: int | None = None
    ) -> list[Passage]:
        self.before(timeout_s)
        return [self.passages[row] for _, row in rows]

    def fetch_vectors(
        self, rows: Sequence[tuple[str, int]], timeout_s: float | None = None, generation: int | None = None
    ) -> NDArray[np.float32]:
        self.before(timeout_s)
        return self.vectors[[row for _, row in rows]]

    def lookup(
        self, names: Sequence[PassageName], timeout_s: float | None = None, generation: int | None = None
    ) -> list[Passage | None]:
        self.before(timeout_s)
        known = {passage.name: passage for passage in self.passages}
        return [known.get(name) for name in names]

    def close(self) -> None:
        pass

    def _best(self, scores: NDArray[np.floating], k: int) -> tuple[Candidate, ...]:
        order = np.argsort(-scores, kind="stable")[:k]
        found = ((self.passages[row], float(scores[row]), int(row)) for row in order)
        return tuple(Candidate(p.document_id, p.chunk_index, score, "s-1", row) for p, score, row in found)


@dataclass
class MemoryRetriever:
    shard: MemoryShard

    def search(self, request: SearchRequest) -> SearchResponse:
        if request.mode == "bm25":
            query = ShardQuery(request.k, bm25=Bm25Query(request.query), timeout_s=request.timeout_s)
        else:
            vector = np.ones(8, np.float32) if request.vector is None else request.vector
            query = ShardQuery(request.k, DenseQuery(vector), timeout_s=request.timeout_s)
        result = self.shard.search(query)
        hits = []
        for rank, candidate in enumerate(result.dense or result.bm25, start=1):
            p = self.shard.passages[candidate.row]
            dense, bm25 = (None, candidate.score) if request.mode == "bm25" else (candidate.score, None)
            identity = (rank, p.document_id, p.chunk_index, candidate.score, dense, bm25)
            hits.append(Hit(*identity, p.title, p.text, p.source, p.start, p.end, p.attributes))
        return SearchResponse(
            query=request.query,
            mode=request.mode,
            score_kind="bm25" if request.mode == "bm25" else "dot",
            generation=3,
            hits=tuple(hits),
            coverage=Coverage(2, 1, 60, 30, {"10.0.0.9:1": "the call failed; ask again"}),
            timings_ms={"total": 0.25},
        )

    def get_passages(self, names: Sequence[PassageName]) -> list[Passage]:
        passages = []
        for name, passage in zip(names, self.shard.lookup(names), strict=True):
            if passage is None:
                raise NotFound(f"no passage {name}", mend="pass names as search results give them", field="names")
            passages.append(passage)
        return passages

    def info(self) -> DatastoreInfo:
        self.shard.before(None)
        return DatastoreInfo(3, 60, 30, 8, "tiny", "flat", 2)

    def close(self) -> None:
        pass


@pytest.fixture
def make_shard() -> Callable[..., Shard]:
    return MemoryShard


@pytest.fixture
def shard() -> Shard:
    return MemoryShard()


@pytest.fixture
def make_retriever() -> Callable[..., Retriever]:
    return lambda before=lambda timeout_s: None: MemoryRetriever(MemoryShard(before))


@pytest.fixture
def retriever() -> Retriever:
    return MemoryRetriever(MemoryShard())


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """`serve(retriever=…, shard=…, …)` starts a server and returns its address."""
    servers: list[RpcServer] = []

    def start(**options: object) -> str:
        servers.append(RpcServer("127.0.0.1:0", **options))  # type: ignore[arg-type]
        return servers[-1].start()

    yield start
    for server in servers:
        server.stop(0)
