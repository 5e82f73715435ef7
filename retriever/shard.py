"""What a router asks of a shard.

`retriever.local_shard` answers from one generation of a store, `retriever.live_shard` from its newest,
`retriever.rpc.remote_shard` over gRPC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from datastore.bm25.statistics import Bm25Statistics
from datastore.documents import Passage, PassageName
from datastore.encoders.fingerprint import EncoderFingerprint
from datastore.errors import FailedPrecondition


class Candidate(NamedTuple):
    """A passage found by one shard, with the score of the search that found it.

    `segment` and `row` say where its owner keeps it; `segment` is unique in the datastore. (A named tuple, as a query
    makes hundreds: a frozen dataclass takes three times as long to make.)
    """

    document_id: str
    chunk_index: int
    score: float
    segment: str
    row: int

    @property
    def name(self) -> PassageName:
        return PassageName(self.document_id, self.chunk_index)


@dataclass(frozen=True, slots=True)
class ShardResult:
    """The answer of one shard to one query: each list best first, ties by stable name."""

    datastore_id: str
    generation: int
    shard_index: int
    shard_count: int
    passages_searched: int
    dense: tuple[Candidate, ...] = ()
    """Scored by exact inner product."""
    bm25: tuple[Candidate, ...] = ()
    passages: tuple[Passage, ...] = ()
    """Of its best candidates, as many as asked for."""
    passages_total: int = 0
    """In the whole datastore, at this generation."""
    generations: tuple[int, ...] = ()
    """Those that the shard holds, ascending, if it says so: what it may be asked for next."""

    @property
    def held(self) -> tuple[int, ...]:
        """At least the one that answered."""
        return self.generations or (self.generation,)


@dataclass(frozen=True, slots=True)
class DenseQuery:
    vector: NDArray[np.float32]
    """float32 [dimension]."""
    candidate_depth: int | None = None
    nprobe: int | None = None
    recall: float | None = None
    """Instead of the two above, which then follow from the datastore's operating curve."""


@dataclass(frozen=True, slots=True)
class Bm25Query:
    text: str
    statistics: Bm25Statistics | None = None
    """Of all shards together; None where the shard knows them by itself (`ShardInfo.bm25_whole`) or is the only one."""
    k1: float | None = None
    b: float | None = None


@dataclass(frozen=True, slots=True)
class ShardQuery:
    """What one shard is asked: one side or both, in one call, as each call costs more than a small search."""

    k: int
    """Candidates wanted of each side."""
    dense: DenseQuery | None = None
    bm25: Bm25Query | None = None
    where: str | None = None
    """A filter in the language of `datastore.filters`; both sides find only passages for which it is true."""
    passages: int = 0
    """Of how many of its best candidates the shard sends the passages along, which mostly spares a `fetch`.

    Best of both sides is by reciprocal rank within the shard: a guess at what the merged order will want.
    """
    timeout_s: float | None = None
    generation: int | None = None
    """To answer from; None for the newest that the shard holds."""


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """What a shard holds, and of which datastore."""

    datastore_id: str
    generation: int
    """What the rest is of: the one asked for, or the newest."""
    shard_index: int
    shard_count: int
    passages: int
    """In this shard."""
    passages_total: int
    """In the whole datastore."""
    documents_total: int
    dimension: int
    encoder: EncoderFingerprint
    index: str
    bm25_k1: float
    bm25_b: float
    bm25_whole: bool
    """Whether the shard knows the BM25 statistics of the whole datastore: all segments lie where it runs."""
    segments: tuple[str, ...]
    generations: tuple[int, ...] = ()
    """Those that can be asked for, ascending, if the shard says so."""
    refresh_error: str = ""
    """Why the store's newest generation is not among them; empty if nothing is wrong."""

    @property
    def held(self) -> tuple[int, ...]:
        """At least the one that this is of."""
        return self.generations or (self.generation,)


_GENERATION = "generation"


def not_held(name: str, generation: int | None, held: Sequence[int]) -> FailedPrecondition:
    """What a shard raises when it is asked for a generation that it does not hold."""
    return FailedPrecondition(
        f"{name} holds the generations {', '.join(map(str, held))}; {generation} was asked for",
        mend="ask for one of those, or for none in particular",
        field=_GENERATION,
    )


def is_not_held(error: FailedPrecondition) -> bool:
    return error.field == _GENERATION


class Shard(Protocol):
    """Some segments of a datastore, searchable; thread-safe. Errors are those of `datastore.errors`.

    Each call may name the generation to answer from, None for the newest; FailedPrecondition (`is_not_held`) if the
    shard does not hold it, or not any more.
    """

    @property
    def name(self) -> str:
        """How answers and errors call this shard: its address, or the store's path."""
        ...

    def describe(self, timeout_s: float | None = None, generation: int | None = None) -> ShardInfo: ...

    def search(self, query: ShardQuery) -> ShardResult: ...

    def bm25_statistics(
        self, text: str, timeout_s: float | None = None, generation: int | None = None
    ) -> tuple[int, Bm25Statistics]:
        """(generation, statistics of this shard for the terms of `text`)."""
        ...

    def fetch(
        self, rows: Sequence[tuple[str, int]], timeout_s: float | None = None, generation: int | None = None
    ) -> list[Passage]:
        """The passages at (segment, row), in that order."""
        ...

    def fetch_vectors(
        self, rows: Sequence[tuple[str, int]], timeout_s: float | None = None, generation: int | None = None
    ) -> NDArray[np.float32]:
        """float32 [len(rows), dimension]: the exact vectors at (segment, row), in that order."""
        ...

    def lookup(
        self, names: Sequence[PassageName], timeout_s: float | None = None, generation: int | None = None
    ) -> list[Passage | None]:
        """The passages of these names, None for each that this shard does not hold."""
        ...

    def close(self) -> None: ...
