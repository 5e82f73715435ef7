"""A shard that answers from the segments of a store in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datastore.ann.index import search_segments
from datastore.bm25.statistics import Bm25Statistics
from datastore.documents import Passage, PassageName
from datastore.errors import InvalidArgument, NotFound
from datastore.store.reader import StoreReader
from datastore.store.vectors import inner_products
from retriever.api import Fusion
from retriever.fusion import rank
from retriever.shard import Bm25Query, Candidate, DenseQuery, ShardInfo, ShardQuery, ShardResult

DEFAULT_CANDIDATE_DEPTH = 100
"""Candidates reranked exactly when a request does not say."""

_MARGIN = 32
"""Candidates beyond k at least: codes order near-ties otherwise than the exact scores do."""

_WARM_UP_WORDS = 12

_SCAN_ERROR = 1e-4
"""How far a flat scan's float32 score may lie from the exact one, relative to the lengths of query and passage vectors:
with a wide margin."""


class LocalShard:
    """Implements `retriever.shard.Shard` over a store, or over one shard of it."""

    def __init__(self, store: Path, shard: tuple[int, int] = (0, 1)) -> None:
        self._reader = StoreReader(store, shard)
        self._positions = {segment.segment_id: i for i, segment in enumerate(self._reader.segments)}
        rows = [segment.vectors.rows for segment in self._reader.segments]
        self._passages = sum(rows)
        self._bases = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])
        """Position in the BM25 index of each segment's first row."""

    @property
    def name(self) -> str:
        index, count = self._reader.shard
        return str(self._reader.path) if count == 1 else f"{self._reader.path} {index}/{count}"

    def describe(self, timeout_s: float | None = None) -> ShardInfo:
        manifest = self._reader.manifest
        return ShardInfo(
            datastore_id=manifest.datastore_id,
            generation=manifest.generation,
            shard_index=self._reader.shard[0],
            shard_count=self._reader.shard[1],
            passages=self._passages,
            passages_total=manifest.passages,
            documents_total=manifest.documents,
            dimension=manifest.encoder.dimension,
            encoder=manifest.encoder,
            index=manifest.index.describe(),
            bm25_k1=manifest.config.bm25.k1,
            bm25_b=manifest.config.bm25.b,
            bm25_whole=self._reader.bm25_whole is not None,
            segments=tuple(segment.segment_id for segment in self._reader.segments),
        )

    def warm_up(self, seconds: float) -> None:
        """Search for what passages begin with, until Java has compiled the way and the kernel has its pages."""
        end = time.monotonic() + seconds
        generator = np.random.default_rng(0)
        while self._passages and time.monotonic() < end:
            segment = self._reader.segments[generator.integers(len(self._reader.segments))]
            row = generator.integers(segment.vectors.rows, size=1)
            text = " ".join(segment.passages.get(row.tolist())[0].indexed_text.split()[:_WARM_UP_WORDS])
            _, statistics = self.bm25_statistics(text)
            vector = segment.vectors.read(row)[0]
            self.search(ShardQuery(DEFAULT_CANDIDATE_DEPTH, DenseQuery(vector), Bm25Query(text, statistics)))

    def search(self, query: ShardQuery) -> ShardResult:
        dense = None if query.dense is None else self._search_dense(query.dense, query.k)
        bm25 = None if query.bm25 is None else self._search_bm25(query.bm25, query.k)
        best = rank(dense, bm25, Fusion())[: query.passages] if query.passages else ()
        return ShardResult(
            datastore_id=self._reader.manifest.datastore_id,
            generation=self._reader.manifest.generation,
            shard_index=self._reader.shard[0],
            shard_count=self._reader.shard[1],
            passages_searched=self._passages,
            dense=dense or (),
            bm25=bm25 or (),
            passages=tuple(self.fetch([(ranked.candidate.segment, ranked.candidate.row) for ranked in best])),
        )

    def _search_dense(self, query: DenseQuery, k: int) -> tuple[Candidate, ...]:
        """ANN to the candidate depth over all segments, then exact inner products with the stored vectors."""
        dimension = self._reader.manifest.encoder.dimension
        if query.vector.shape != (dimension,):
            raise InvalidArgument(
                f"the query vector has the shape {query.vector.shape}; the store's encoder "
                f"{self._reader.manifest.encoder.name!r} gives ({dimension},)",
                mend="encode the query with the store's encoder",
                field="vector",
            )
        if not np.isfinite(query.vector).all():
            raise InvalidArgument(
                "the query vector has a value that is not finite", mend="pass finite float32 values", field="vector"
            )
        depth = max(k + _MARGIN, query.candidate_depth or DEFAULT_CANDIDATE_DEPTH)
        depth = min(depth, max(self._passages, 1))
        nprobe = query.nprobe or self._reader.manifest.index.default_nprobe
        found = self._exact_candidates(query.vector, depth, nprobe)
        # With a scan of everything, the order is exact if nothing left out could tie with the k-th or pass it.
        while self._reader.template.exact and depth < self._passages and found.cut_may_tie(k):
            depth = min(4 * depth, self._passages)
            found = self._exact_candidates(query.vector, depth, nprobe)
        return self._best(found.positions, found.rows, found.scores, k)

    def _exact_candidates(self, vector: NDArray[np.float32], depth: int, nprobe: int) -> _Found:
        segments = self._reader.segments
        candidates = search_segments(
            self._reader.template, [segment.ann for segment in segments], vector, depth, nprobe
        )
        scores = np.empty(len(candidates.rows), np.float32)
        longest = 0.0
        for position in np.unique(candidates.segments):
            mine = candidates.segments == position
            vectors = segments[position].vectors.read(candidates.rows[mine])
            scores[mine] = inner_products(vectors, vector)
            longest = max(longest, float(np.linalg.norm(vectors, axis=1).max()))
        error = _SCAN_ERROR * longest * float(np.linalg.norm(vector))
        return _Found(candidates.segments, candidates.rows, scores, error)

    def bm25_statistics(self, text: str, timeout_s: float | None = None) -> tuple[int, Bm25Statistics]:
        index = self._reader.bm25
        statistics = index.statistics(text) if index is not None else Bm25Statistics(0, 0, {})
        return self._reader.manifest.generation, statistics

    def _search_bm25(self, query: Bm25Query, k: int) -> tuple[Candidate, ...]:
        settings = self._reader.manifest.config.bm25
        if self._reader.bm25 is None:
            return ()
        statistics = query.statistics
        if statistics is None and (whole := self._reader.bm25_whole) not in (None, self._reader.bm25):
            statistics = whole.statistics(query.text)
        depth = k + 1
        while True:
            rows, scores = self._reader.bm25.search(
                query.text,
                min(depth, self._passages),
                k1=settings.k1 if query.k1 is None else query.k1,
                b=settings.b if query.b is None else query.b,
                statistics=statistics,
            )
            # Lucene breaks ties by row: all that tie with the k-th must be seen to break them by name.
            if len(rows) < depth or scores[-1] < scores[k - 1]:
                break
            depth *= 4
        positions = np.searchsorted(self._bases, rows, side="right") - 1
        return self._best(positions, rows - self._bases[positions], scores, k)

    def _best(
        self, positions: NDArray[np.int64], rows: NDArray[np.int64], scores: NDArray[np.float32], k: int
    ) -> tuple[Candidate, ...]:
        """The best k, ties by stable name."""
        if len(scores) > k:  # names are only worth reading for what can be among them
            cut = np.partition(scores, -k)[-k]
            keep = scores >= cut
            positions, rows, scores = positions[keep], rows[keep], scores[keep]
        candidates = []
        for position in np.unique(positions):
            segment = self._reader.segments[position]
            mine = positions == position
            names = segment.columns.names(rows[mine])
            candidates += [
                Candidate(name.document_id, name.chunk_index, score, segment.segment_id, row)
                for name, row, score in zip(names, rows[mine].tolist(), scores[mine].tolist(), strict=True)
            ]
        candidates.sort(key=lambda candidate: (-candidate.score, candidate.document_id, candidate.chunk_index))
        return tuple(candidates[:k])

    def fetch(self, rows: Sequence[tuple[str, int]], timeout_s: float | None = None) -> list[Passage]:
        found: dict[int, Passage] = {}
        for position, places in self._places(rows).items():
            passages = self._reader.segments[position].passages.get([rows[place][1] for place in places])
            found.update(zip(places, passages, strict=True))
        return [found[place] for place in range(len(rows))]

    def fetch_vectors(self, rows: Sequence[tuple[str, int]], timeout_s: float | None = None) -> NDArray[np.float32]:
        vectors = np.empty((len(rows), self._reader.manifest.encoder.dimension), np.float32)
        for position, places in self._places(rows).items():
            wanted = np.array([rows[place][1] for place in places])
            vectors[places] = self._reader.segments[position].vectors.read(wanted)
        return vectors

    def _places(self, rows: Sequence[tuple[str, int]]) -> dict[int, list[int]]:
        """Position of each segment named -> the places in `rows` that name it; NotFound for a row that is not here."""
        places: dict[int, list[int]] = {}
        for place, (segment_id, row) in enumerate(rows):
            position = self._positions.get(segment_id)
            if position is None:
                raise NotFound(
                    f"shard {self.name} does not hold the segment {segment_id!r}",
                    mend="ask the shard that found the passage",
                    field="segment",
                )
            if not 0 <= row < self._reader.segments[position].vectors.rows:
                raise NotFound(
                    f"the segment {segment_id!r} has no row {row}",
                    mend="ask for rows that a search found",
                    field="row",
                )
            places.setdefault(position, []).append(place)
        return places

    def lookup(self, names: Sequence[PassageName], timeout_s: float | None = None) -> list[Passage | None]:
        found: list[Passage | None] = [None] * len(names)
        for segment in self._reader.segments:
            rows = segment.passages.find(names)
            held = [(i, row) for i, row in enumerate(rows) if row is not None]
            for (i, _), passage in zip(held, segment.passages.get([row for _, row in held]), strict=True):
                found[i] = passage
        return found

    def close(self) -> None:
        self._reader.close()


@dataclass(frozen=True, slots=True)
class _Found:
    """Candidates with their exact scores: aligned arrays [found], in no order."""

    positions: NDArray[np.int64]
    """Of their segments in the shard."""
    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    scan_error: float
    """How far the scan that found them may have been from these scores."""

    def cut_may_tie(self, k: int) -> bool:
        """Whether the worst candidate's score is so near the k-th that one left out could belong before it."""
        if len(self.scores) <= k:
            return True
        kth = np.partition(self.scores, -k)[-k]
        return bool(kth - self.scores.min() <= self.scan_error)
