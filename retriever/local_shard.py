"""A shard that answers from the segments of one generation of a store, in this process."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from datastore.bm25.statistics import Bm25Statistics
from datastore.devices import CPU, DeviceChoice
from datastore.documents import Passage, PassageName
from datastore.errors import InvalidArgument, NotFound
from datastore.filters.language import parse
from datastore.filters.predicate import Predicate
from datastore.filters.survivors import joined
from datastore.store.manifest import Manifest
from datastore.store.reader import StoreReader
from retriever.api import Fusion
from retriever.batching import Batcher
from retriever.dense import DEFAULT_CANDIDATE_DEPTH, DenseSearch, Found
from retriever.effort import effort
from retriever.filtered import Accepted
from retriever.fusion import rank
from retriever.shard import Bm25Query, Candidate, DenseQuery, ShardInfo, ShardQuery, ShardResult, not_held

_WARM_UP_WORDS = 12

_KEPT_FILTERS = 32
"""Filters whose survivors are kept as one bitmap over all segments, a bit a passage: the joining takes milliseconds."""

_DenseKey = tuple[int, int | None, int | None, Predicate | None]
"""What dense searches must have in common to be done together: k, candidate depth, probes and filter."""


class LocalShard:
    """Implements `retriever.shard.Shard` over the generation that a store, or one shard of it, has when it is opened.

    Args:
        device: where its codes are searched.
        previous: of another generation, to share what both have; `join_all`: but join the codes of all segments anew.
    """

    def __init__(
        self,
        store: Path,
        shard: tuple[int, int] = (0, 1),
        device: DeviceChoice = CPU,
        *,
        previous: LocalShard | None = None,
        join_all: bool = False,
    ) -> None:
        before = None if previous is None else previous._reader
        self._reader: StoreReader = StoreReader(store, shard, device, previous=before, join_all=join_all)
        self._positions = {segment.segment_id: i for i, segment in enumerate(self._reader.segments)}
        rows = [segment.vectors.rows for segment in self._reader.segments]
        self._passages = self._reader.live_passages
        self._passages_total = self._reader.manifest.passages
        self._bases = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])
        """Of each segment's first row, where rows count on from segment to segment."""
        # Not of bound methods: a shard that refers to itself lets go of its codes and files only when the interpreter
        # looks for such.
        accepted = functools.lru_cache(_KEPT_FILTERS)(functools.partial(_join_survivors, self._reader))
        self._batcher: Batcher[NDArray[np.float32], Found] = Batcher(
            functools.partial(_search_together, DenseSearch(self._reader), accepted)
        )

    @property
    def name(self) -> str:
        index, count = self._reader.shard
        return str(self._reader.path) if count == 1 else f"{self._reader.path} {index}/{count}"

    @property
    def manifest(self) -> Manifest:
        return self._reader.manifest

    @property
    def generation(self) -> int:
        return self._reader.manifest.generation

    @property
    def tail_share(self) -> float:
        """Passages whose codes lie beside those that are joined, to those."""
        first, *rest = (group.rows for group in self._reader.groups)
        return sum(rest) / max(1, first)

    def _require(self, generation: int | None) -> None:
        if generation not in (None, self.generation):
            raise not_held(self.name, generation, (self.generation,))

    def describe(self, timeout_s: float | None = None, generation: int | None = None) -> ShardInfo:
        self._require(generation)
        manifest = self._reader.manifest
        return ShardInfo(
            datastore_id=manifest.datastore_id,
            generation=manifest.generation,
            generations=(manifest.generation,),
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
        if self._passages and seconds > 0:  # loads the filters' parser
            self.search(ShardQuery(1, bm25=Bm25Query("warm"), where="document_id is null"))
        while self._passages and time.monotonic() < end:
            self._try_segment(int(generator.integers(len(self._reader.segments))), generator)

    def try_out(self) -> None:
        """Search once for what a passage of the newest segment begins with: what is damaged there may show."""
        if self._passages:
            self._try_segment(-1, np.random.default_rng(0))

    def _try_segment(self, position: int, generator: np.random.Generator) -> None:
        segment = self._reader.segments[position]
        if not segment.live.count:
            return
        row = segment.live.rows[generator.integers(segment.live.count, size=1)]
        text = " ".join(segment.passages.get(row.tolist())[0].indexed_text.split()[:_WARM_UP_WORDS])
        _, statistics = self.bm25_statistics(text)
        vector = segment.vectors.read(row)[0]
        self.search(ShardQuery(DEFAULT_CANDIDATE_DEPTH, DenseQuery(vector), Bm25Query(text, statistics)))

    def search(self, query: ShardQuery) -> ShardResult:
        self._require(query.generation)
        where = None if query.where is None else parse(query.where)
        dense = None if query.dense is None else self._search_dense(query.dense, query.k, where)
        bm25 = None if query.bm25 is None else self._search_bm25(query.bm25, query.k, where)
        best = rank(dense, bm25, Fusion())[: query.passages] if query.passages else ()
        return ShardResult(
            datastore_id=self._reader.manifest.datastore_id,
            generation=self.generation,
            generations=(self.generation,),
            shard_index=self._reader.shard[0],
            shard_count=self._reader.shard[1],
            passages_searched=self._passages,
            passages_total=self._passages_total,
            dense=dense or (),
            bm25=bm25 or (),
            passages=tuple(self.fetch([(ranked.candidate.segment, ranked.candidate.row) for ranked in best])),
        )

    def _search_dense(self, query: DenseQuery, k: int, where: Predicate | None) -> tuple[Candidate, ...]:
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
        candidate_depth, nprobe = effort(self._reader.manifest, query, k)
        found = self._batcher.run((k, candidate_depth, nprobe, where), query.vector)
        return self._best(found.rows, found.scores, k)

    def bm25_statistics(
        self, text: str, timeout_s: float | None = None, generation: int | None = None
    ) -> tuple[int, Bm25Statistics]:
        self._require(generation)
        index = self._reader.bm25
        statistics = index.statistics(text) if index is not None else Bm25Statistics(0, 0, {})
        return self.generation, statistics

    def _search_bm25(self, query: Bm25Query, k: int, where: Predicate | None) -> tuple[Candidate, ...]:
        settings = self._reader.manifest.config.bm25
        if self._reader.bm25 is None:
            return ()
        statistics = query.statistics
        if statistics is None and (whole := self._reader.bm25_whole) not in (None, self._reader.bm25):
            statistics = whole.statistics(query.text)
        accept = self._reader.accept(where)
        depth = k + 1
        while True:
            rows, scores = self._reader.bm25.search(
                query.text,
                min(depth, self._passages),
                k1=settings.k1 if query.k1 is None else query.k1,
                b=settings.b if query.b is None else query.b,
                statistics=statistics,
                accept=accept,
            )
            # Lucene breaks ties by row: all that tie with the k-th must be seen to break them by name.
            if len(rows) < depth or scores[-1] < scores[k - 1]:
                break
            depth *= 4
        return self._best(rows, scores, k)

    def _best(self, rows: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> tuple[Candidate, ...]:
        """The best k, ties by stable name; rows count on from segment to segment."""
        if len(scores) > k:  # names are only worth reading for what can be among them
            cut = np.partition(scores, -k)[-k]
            keep = scores >= cut
            rows, scores = rows[keep], scores[keep]
        positions = np.searchsorted(self._bases, rows, side="right") - 1
        found = []
        for position in np.unique(positions).tolist():
            segment = self._reader.segments[position]
            mine = positions == position
            own = rows[mine] - self._bases[position]
            names = segment.columns.names(own)
            found += [
                Candidate(name.document_id, name.chunk_index, score, segment.segment_id, row)
                for name, row, score in zip(names, own.tolist(), scores[mine].tolist(), strict=True)
            ]
        found.sort(key=lambda candidate: (-candidate.score, candidate.document_id, candidate.chunk_index))
        return tuple(found[:k])

    def fetch(
        self, rows: Sequence[tuple[str, int]], timeout_s: float | None = None, generation: int | None = None
    ) -> list[Passage]:
        self._require(generation)
        found: dict[int, Passage] = {}
        for position, places in self._places(rows).items():
            passages = self._reader.segments[position].passages.get([rows[place][1] for place in places])
            found.update(zip(places, passages, strict=True))
        return [found[place] for place in range(len(rows))]

    def fetch_vectors(
        self, rows: Sequence[tuple[str, int]], timeout_s: float | None = None, generation: int | None = None
    ) -> NDArray[np.float32]:
        self._require(generation)
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
            if row not in self._reader.segments[position].live:
                raise NotFound(
                    f"row {row} of the segment {segment_id!r} was deleted",
                    mend="ask for rows that a search found",
                    field="row",
                )
            places.setdefault(position, []).append(place)
        return places

    def lookup(
        self, names: Sequence[PassageName], timeout_s: float | None = None, generation: int | None = None
    ) -> list[Passage | None]:
        self._require(generation)
        found: list[Passage | None] = [None] * len(names)
        for segment in self._reader.segments:
            rows = segment.passages.find(names)
            held = [(i, row) for i, row in enumerate(rows) if row is not None and row in segment.live]
            for (i, _), passage in zip(held, segment.passages.get([row for _, row in held]), strict=True):
                found[i] = passage
        return found

    def close(self) -> None:
        self._reader.close()


def _join_survivors(reader: StoreReader, where: Predicate) -> Accepted:
    """What a filter leaves of all segments, deleted passages left out."""
    survivors = joined([segment.survivors(where) for segment in reader.segments])
    return Accepted(survivors.bitmap, survivors.count)


def _search_together(
    dense: DenseSearch,
    accepted: Callable[[Predicate], Accepted],
    key: Hashable,
    vectors: Sequence[NDArray[np.float32]],
) -> list[Found]:
    k, candidate_depth, nprobe, where = cast(_DenseKey, key)
    return dense.search(
        np.stack(vectors),
        k,
        candidate_depth=candidate_depth,
        nprobe=nprobe,
        accepted=None if where is None else accepted(where),
    )
