"""One query over all shards: encode once, search every shard, merge, fuse, diversify, fetch from the owners."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from datastore.bm25.statistics import Bm25Statistics
from datastore.documents import Passage, PassageName
from datastore.encoders.registry import Encoder
from datastore.errors import NotFound, Unavailable
from retriever.api import MAX_DIVERSE_K, DatastoreInfo, Hit, ScoreKind, SearchRequest, SearchResponse
from retriever.diversity import diversify
from retriever.fanout import Calls, Deadline, Moved
from retriever.fusion import Ranked, rank
from retriever.membership import Membership
from retriever.shard import Bm25Query, Candidate, DenseQuery, Shard, ShardQuery, ShardResult

FUSION_DEPTH = 50
"""Candidates of each side that are fused, at least; never fewer than twice those wanted of the fused list."""

DIVERSE_DEPTH = 50
"""Ranked candidates that diverse hits are chosen from, at least; 4 k where that is more, up to MAX_DIVERSE_K."""

_CALLS_PER_SHARD = 16
"""At once."""

_ATTEMPTS = 100
"""To answer a request from one generation, while the shards go on to others and wait for one another."""

_INFO_S = 5.0
"""That shards may take to say what they hold."""

Answer = TypeVar("Answer")


class Router:
    """Implements `retriever.api.Retriever` over shards, in this process or behind gRPC; thread-safe.

    Args:
        members: the shards of one datastore.
        open_encoder: gives the encoder of the datastore; called at the first query that needs it.
    """

    def __init__(self, members: Membership, open_encoder: Callable[[], Encoder]) -> None:
        self._membership = members
        self._open_encoder = open_encoder
        self._encoder: Encoder | None = None
        self._encoder_lock = threading.Lock()
        # Threads of its own for each shard: calls to one that hangs hold up no other's.
        self._pools = {
            shard: ThreadPoolExecutor(_CALLS_PER_SHARD, thread_name_prefix="router") for shard in members.shards
        }

    def load_encoder(self) -> Encoder:
        """The encoder, loaded now if it was not; a server calls this before it says that it serves."""
        with self._encoder_lock:
            if self._encoder is None:
                self._encoder = self._open_encoder()
            return self._encoder

    def search(self, request: SearchRequest) -> SearchResponse:
        request.validate()
        clock = _Clock()
        deadline = Deadline(request.timeout_s)
        if request.mode != "bm25":
            request = replace(request, vector=self._vector(request))
            clock.lap("encode")
        return self._at_one_generation(deadline, lambda calls: self._search(request, calls, clock))

    def _at_one_generation(
        self, deadline: Deadline, answer: Callable[[Calls], Answer], *, anew: bool = False
    ) -> Answer:
        """`answer` of shards that answer from one generation; begun anew where they go on to others meanwhile."""
        for _ in range(_ATTEMPTS):
            calls = Calls(self._pools, self._membership, deadline)
            with suppress(Moved):
                calls.settle(anew=anew)
                return answer(calls)
        raise Unavailable(
            f"the shards came to no generation that all of them hold, in {_ATTEMPTS} attempts",
            mend="ask again, and look into the shards' logs",
        )

    def _search(self, request: SearchRequest, calls: Calls, clock: _Clock) -> SearchResponse:
        results = self._search_shards(request, calls, clock)
        ranked = _rank(request, results)
        clock.lap("fuse")
        if request.diverse:
            ranked = self._diversify(request, ranked, calls)
            clock.lap("diversify")
        hits = self._hits(ranked, results, calls)
        clock.lap("fetch")
        coverage = calls.coverage()
        if request.require_complete:
            calls.raise_failures()
        return SearchResponse(
            query=request.query,
            mode=request.mode,
            score_kind=_score_kind(request),
            generation=calls.generation or 0,
            hits=hits,
            coverage=coverage,
            timings_ms=clock.total(),
        )

    def get_passages(self, names: Sequence[PassageName]) -> list[Passage]:
        return self._at_one_generation(Deadline(None), lambda calls: self._lookup(names, calls), anew=True)

    def _lookup(self, names: Sequence[PassageName], calls: Calls) -> list[Passage]:
        answers = calls.each(lambda shard, timeout_s: shard.lookup(names, timeout_s, calls.generation))
        calls.raise_failures()
        found: list[Passage] = []
        for position, name in enumerate(names):
            passage = next((answer[position] for answer in answers.values() if answer[position] is not None), None)
            if passage is None:
                raise NotFound(
                    f"there is no passage {name.chunk_index} of document {name.document_id!r}",
                    mend="take names from the hits of a search of this datastore",
                    field="names",
                )
            found.append(passage)
        return found

    def info(self) -> DatastoreInfo:
        return self._at_one_generation(Deadline(_INFO_S), self._info, anew=True)

    def _info(self, calls: Calls) -> DatastoreInfo:
        infos = list(calls.each(lambda shard, timeout_s: shard.describe(timeout_s, calls.generation)).values())
        known = infos[0]
        return DatastoreInfo(
            generation=known.generation,
            passages=known.passages_total,
            documents=known.documents_total,
            dimension=known.dimension,
            encoder=known.encoder.name,
            index=known.index,
            shards_total=known.shard_count,
            refresh_error="; ".join(dict.fromkeys(info.refresh_error for info in infos if info.refresh_error)),
        )

    def close(self) -> None:
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        self._membership.close()

    def _search_shards(self, request: SearchRequest, calls: Calls, clock: _Clock) -> list[ShardResult]:
        """The answers that count."""
        bm25 = dense = None
        if request.mode != "dense":
            bm25 = Bm25Query(request.query, self._statistics(request, calls), request.bm25_k1, request.bm25_b)
            clock.lap("statistics")
        if request.mode != "bm25":
            assert request.vector is not None
            dense = DenseQuery(request.vector, request.candidate_depth, request.nprobe, request.recall)
        along = _passages_along(request.k, calls.shard_count)
        query = ShardQuery(_depth(request), dense, bm25, request.where, along, generation=calls.generation)
        results = calls.each(lambda shard, timeout_s: shard.search(replace(query, timeout_s=timeout_s)))
        calls.note_results(results)
        clock.lap("search")
        return [result for shard, result in results.items() if calls.is_ok(shard)]

    def _vector(self, request: SearchRequest) -> NDArray[np.float32]:
        if request.vector is not None:
            return request.vector
        vector: NDArray[np.float32] = self.load_encoder().encode_queries([request.query])[0]
        return vector

    def _statistics(self, request: SearchRequest, calls: Calls) -> Bm25Statistics | None:
        """Of all shards, summed up; None where every shard knows them by itself."""
        if calls.shard_count == 1 or self._membership.every(lambda info: info.bm25_whole):
            return None
        parts = calls.each(
            lambda shard, timeout_s: shard.bm25_statistics(request.query, timeout_s, calls.generation)[1]
        )
        return Bm25Statistics.merge(parts.values())

    def _diversify(self, request: SearchRequest, ranked: Sequence[Ranked], calls: Calls) -> list[Ranked]:
        """The k chosen, by vectors from their owners; a shard that fails now takes its candidates with it."""
        owned = _by_owner(ranked, calls)
        answers = calls.each(
            lambda shard, timeout_s: shard.fetch_vectors(_rows(owned[shard]), timeout_s, calls.generation),
            among=list(owned),
        )
        vectors = {
            item.candidate.name: vector
            for shard, found in answers.items()
            for item, vector in zip(owned[shard], found, strict=True)
        }
        kept = [item for item in ranked if item.candidate.name in vectors]
        if not kept:
            return kept
        chosen = diversify(
            np.stack([vectors[item.candidate.name] for item in kept]),
            [item.score for item in kept],
            request.k,
            mmr_lambda=request.mmr_lambda,
            collapse_similarity=request.collapse_similarity,
        )
        return [replace(kept[place], duplicates=duplicates) for place, duplicates in chosen]

    def _hits(self, ranked: Sequence[Ranked], results: Sequence[ShardResult], calls: Calls) -> tuple[Hit, ...]:
        passages = {passage.name: passage for result in results for passage in result.passages}
        missing = _by_owner([item for item in ranked if item.candidate.name not in passages], calls)
        answers = calls.each(
            lambda shard, timeout_s: shard.fetch(_rows(missing[shard]), timeout_s, calls.generation),
            among=list(missing),
        )
        for fetched in answers.values():
            passages.update({passage.name: passage for passage in fetched})
        # A shard that died after its search takes the hits with it that it did not send along; coverage says so.
        kept = [item for item in ranked if item.candidate.name in passages]
        return tuple(_hit(place, item, passages[item.candidate.name]) for place, item in enumerate(kept, 1))


def _wanted(request: SearchRequest) -> int:
    """Ranked candidates that the hits are chosen from: what a plain search for so many would give."""
    return request.k if not request.diverse else min(max(4 * request.k, DIVERSE_DEPTH), MAX_DIVERSE_K)


def _depth(request: SearchRequest) -> int:
    wanted = _wanted(request)
    return wanted if request.mode != "hybrid" else max(2 * wanted, FUSION_DEPTH)


def _passages_along(k: int, shards: int) -> int:
    """How many of its best passages a shard sends with its answer.

    With the k best spread over the shards at random, few hold more of them than the mean and three standard deviations.
    """
    mean = k / shards
    return min(k, math.ceil(mean + 3 * math.sqrt(mean)))


def _rank(request: SearchRequest, results: Sequence[ShardResult]) -> list[Ranked]:
    """The best over all shards: by exact inner product, by BM25 with the statistics of all, or by both fused."""
    depth = _depth(request)
    dense = _merge((result.dense for result in results), depth) if request.mode != "bm25" else None
    bm25 = _merge((result.bm25 for result in results), depth) if request.mode != "dense" else None
    return rank(dense, bm25, request.fusion)[: _wanted(request)]


def _score_kind(request: SearchRequest) -> ScoreKind:
    return request.fusion.method if request.mode == "hybrid" else "bm25" if request.mode == "bm25" else "dot"


def _merge(parts: Iterable[Sequence[Candidate]], depth: int) -> list[Candidate]:
    merged = [candidate for part in parts for candidate in part]
    merged.sort(key=lambda candidate: (-candidate.score, candidate.document_id, candidate.chunk_index))
    return merged[:depth]


def _by_owner(ranked: Sequence[Ranked], calls: Calls) -> dict[Shard, list[Ranked]]:
    owned: dict[Shard, list[Ranked]] = {}
    for item in ranked:
        owned.setdefault(calls.owner(item.candidate.segment), []).append(item)
    return owned


def _rows(ranked: Sequence[Ranked]) -> list[tuple[str, int]]:
    return [(item.candidate.segment, item.candidate.row) for item in ranked]


def _hit(place: int, item: Ranked, passage: Passage) -> Hit:
    return Hit(
        rank=place,
        document_id=passage.document_id,
        chunk_index=passage.chunk_index,
        score=item.score,
        dense_score=item.dense_score,
        bm25_score=item.bm25_score,
        title=passage.title,
        text=passage.text,
        source=passage.source,
        start=passage.start,
        end=passage.end,
        attributes=passage.attributes,
        duplicates=item.duplicates,
    )


class _Clock:
    """Milliseconds of each stage of one query."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self._laps[stage] = (now - self._last) * 1e3
        self._last = now

    def total(self) -> dict[str, float]:
        return {**self._laps, "total": (time.perf_counter() - self._start) * 1e3}
