"""Filtered search measured: recall against exact search among the survivors, and time, beside a search without filter.

All through the shard's own way: the filter's text to a bitmap over the store's columns, then `retriever.dense`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.ann.cache import drop_page_cache, fill_page_cache
from bench.ann.dataset import Dataset
from bench.ann.truth import exact_neighbours, exact_scores, recall
from datastore.filters.cache import SurvivorsCache
from datastore.filters.language import parse
from datastore.store.reader import StoreReader
from retriever.dense import DenseSearch, Found
from retriever.filtered import Accepted

SHARES = (0.5, 0.1, 0.01, 0.001)
GROUPED_SHARES = (0.1, 0.01, 0.001)
FILTERS_AT_ONCE = 16
PREDICATES = (
    "year = 2007",
    "source = 'source-07'",
    "uniform < 0.01",
    "starts_with(document_id, '77')",
    "source in ('source-07', 'source-08') and not year between 2000 and 2009",
)
_REPEATS = 5
_TOGETHER = 512
"""Queries of one filter that are searched for at once."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How a search is asked for; None leaves the choice to the house."""

    k: int = 10
    nprobe: int | None = None
    candidate_depth: int | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """A filter, and the queries asked with it."""

    where: str | None
    near: bool
    """Whether queries are those most like the region that the filter leaves; else any."""
    survivors: int


@dataclass(frozen=True, slots=True)
class CasePoint:
    """One filter, one query at a time; milliseconds."""

    case: Case
    queries: int
    new_recall: float
    """While the filter is new to the shard."""
    new_p50: float
    new_p99: float
    known_recall: float
    """Once many queries have asked for it."""
    known_p50: float
    known_p99: float
    first_ms: float
    """Of the first query with the filter, its bitmap at hand."""
    preparing_ms: float
    """Of the query for which codes are kept from then on; 0 where none are."""


@dataclass(frozen=True, slots=True)
class PredicatePoint:
    """A filter's text to its bitmap, milliseconds."""

    where: str
    survivors: int
    parse_ms: float
    cold_ms: float
    """The columns' pages dropped before."""
    first_ms: float
    """Pages in memory, nothing kept."""
    kept_ms: float


@dataclass(frozen=True, slots=True)
class GroupedPoint:
    """Queries over several filters of one selectivity; microseconds a query, one thread."""

    share: float
    queries: int
    filters: int
    alone_us: float
    """One at a time, filters new: nothing is kept but what one query leaves for the next."""
    alone_known_us: float
    """One at a time, codes of the survivors at hand."""
    grouped_us: float
    """By filter, filters new: what is counted and encoded on the way is included."""
    grouped_known_us: float


class FilteredBench:
    """Over a store of `bench.ann.filtered_store`, whose rows are the dataset's."""

    def __init__(self, dataset: Dataset, store: Path, asked: Asked, query_count: int) -> None:
        self._dataset = dataset
        self.reader = StoreReader(store)
        self._search = DenseSearch(self.reader)
        self.asked = asked
        self._plain_queries = dataset.queries[:query_count]
        for segment in self.reader.segments:
            fill_page_cache(store / "segments" / segment.segment_id)

    def close(self) -> None:
        self.reader.close()

    @property
    def index(self) -> str:
        return self.reader.manifest.index.describe()

    def cases(self) -> list[Case]:
        wheres = [(f"{name} < {share}", near) for share in SHARES for name, near in _COLUMNS]
        return [Case(None, False, len(self._dataset.base))] + [
            Case(where, near, self.accepted(where).count) for where, near in wheres
        ]

    def accepted(self, where: str) -> Accepted:
        """A filter's survivors, as new to the shard."""
        survivors = [segment.filters.survivors(parse(where)) for segment in self.reader.segments]
        bits = [np.unpackbits(part.bitmap, count=part.passages, bitorder="little") for part in survivors]
        return Accepted(np.packbits(np.concatenate(bits), bitorder="little"), sum(part.count for part in survivors))

    def measure(self, case: Case) -> CasePoint:
        queries = self.queries(case)
        truth = self.truth(queries, None if case.where is None else self.accepted(case.where))
        accepted = None if case.where is None else self.accepted(case.where)
        first = self._timed(queries[:1], accepted)[1][0]
        self._timed(queries[:32], accepted, new=True)
        new_recall, new_ms = self._recall_and_times(queries, accepted, truth, new=True)
        if accepted is None:
            known_recall, known_ms, preparing = new_recall, new_ms, 0.0
        else:
            accepted.asked = 10**9
            preparing = self._timed(queries[:1], accepted)[1][0] if accepted.codes is None else 0.0
            known_recall, known_ms = self._recall_and_times(queries, accepted, truth, new=False)
            preparing = preparing if accepted.codes is not None else 0.0
        (new_p50, new_p99), (known_p50, known_p99) = (np.percentile(ms, [50, 99]).tolist() for ms in (new_ms, known_ms))
        return CasePoint(
            case, len(queries), new_recall, new_p50, new_p99, known_recall, known_p50, known_p99, first, preparing
        )

    def predicate(self, where: str) -> PredicatePoint:
        parse.cache_clear()
        begin = time.perf_counter()
        predicate = parse(where)
        parsing = time.perf_counter() - begin
        columns = [segment.columns for segment in self.reader.segments]
        folders = [self.reader.path / "segments" / segment.segment_id for segment in self.reader.segments]

        def once(caches: Sequence[SurvivorsCache]) -> float:
            begin = time.perf_counter()
            for cache in caches:
                cache.survivors(predicate)
            return (time.perf_counter() - begin) * 1e3

        once([SurvivorsCache(one) for one in columns])
        for folder in folders:
            drop_page_cache(folder)
        cold = once([SurvivorsCache(one) for one in columns])
        for folder in folders:
            fill_page_cache(folder)
        first = float(np.median([once([SurvivorsCache(one) for one in columns]) for _ in range(_REPEATS)]))
        kept = [SurvivorsCache(one) for one in columns]
        once(kept)
        again = float(np.median([once(kept) for _ in range(_REPEATS)]))
        return PredicatePoint(where, self.accepted(where).count, parsing * 1e3, cold, first, again)

    def grouped(self, share: float, query_count: int) -> GroupedPoint:
        """Queries in random order over filters of `share` each, one at a time and grouped by filter."""
        generator = np.random.default_rng(0)
        bounds = np.linspace(0, 1 - share, FILTERS_AT_ONCE)
        wheres = [f"uniform >= {low} and uniform < {low + share}" for low in bounds.tolist()]
        asked = generator.integers(FILTERS_AT_ONCE, size=query_count)
        queries = self._dataset.queries[generator.integers(len(self._dataset.queries), size=query_count)]

        def alone(accepted: Sequence[Accepted], new: bool) -> float:
            begin = time.perf_counter()
            few = min(query_count, 512)
            for query, number in zip(queries[:few], asked[:few].tolist(), strict=True):
                if new:
                    accepted[number].asked = 0
                self._find(query[None], accepted[number])
            return (time.perf_counter() - begin) / few * 1e6

        def grouped(accepted: Sequence[Accepted]) -> float:
            begin = time.perf_counter()
            for number, mine in enumerate(accepted):
                own = queries[asked == number]
                for start in range(0, len(own), _TOGETHER):
                    self._find(own[start : start + _TOGETHER], mine)
            return (time.perf_counter() - begin) / query_count * 1e6

        filters = [self.accepted(where) for where in wheres]
        alone_us = alone(filters, new=True)
        filters = [self.accepted(where) for where in wheres]
        grouped_us = grouped(filters)
        for one in filters:
            one.asked = 10**9
        grouped(filters)
        return GroupedPoint(
            share, query_count, FILTERS_AT_ONCE, alone_us, alone(filters, new=False), grouped_us, grouped(filters)
        )

    def queries(self, case: Case) -> NDArray[np.float32]:
        return self._near(case) if case.near else self._plain_queries

    def _near(self, case: Case) -> NDArray[np.float32]:
        """As many queries as otherwise, or a fiftieth of all, those most like the middle of the case's region."""
        assert case.where is not None
        middle = self._anchor(case.where.split()[0])
        order = np.argsort(-(self._dataset.queries @ middle), kind="stable")
        return self._dataset.queries[order[: min(len(self._plain_queries), max(1, len(order) // 50))]]

    def _anchor(self, column: str) -> NDArray[np.float32]:
        rows = self.accepted(f"{column} = 0.0").rows
        middle: NDArray[np.float32] = self._dataset.base[rows[0]].astype(np.float32)
        return middle

    def truth(self, queries: NDArray[np.float32], accepted: Accepted | None) -> NDArray[np.float32]:
        base = self._dataset.base if accepted is None else self._dataset.base[accepted.rows]
        return exact_neighbours(base, queries, self.asked.k)[1]

    def _find(self, queries: NDArray[np.float32], accepted: Accepted | None) -> list[Found]:
        asked = self.asked
        return self._search.search(
            queries, asked.k, candidate_depth=asked.candidate_depth, nprobe=asked.nprobe, accepted=accepted
        )

    def _timed(
        self, queries: NDArray[np.float32], accepted: Accepted | None, *, new: bool = False
    ) -> tuple[list[Found], list[float]]:
        found, milliseconds = [], []
        for query in queries:
            if new and accepted is not None:
                accepted.asked = 0
            begin = time.perf_counter()
            found += self._find(query[None], accepted)
            milliseconds.append((time.perf_counter() - begin) * 1e3)
        return found, milliseconds

    def _recall_and_times(
        self, queries: NDArray[np.float32], accepted: Accepted | None, truth: NDArray[np.float32], *, new: bool
    ) -> tuple[float, list[float]]:
        found, milliseconds = self._timed(queries, accepted, new=new)
        k = self.asked.k
        ids = np.full((len(queries), k), -1, np.int64)
        for row, mine in zip(ids, found, strict=True):
            best = mine.rows[np.argsort(-mine.scores, kind="stable")[:k]]
            row[: len(best)] = best
            if accepted is not None and not (accepted.bitmap[best // 8] >> (best % 8) & 1).all():
                raise AssertionError("a search found what its filter excludes")
        return recall(exact_scores(self._dataset.base, queries, ids), truth, k), milliseconds


_COLUMNS = (("uniform", False), ("region_0", False), ("region_0", True), ("region_1", False), ("region_1", True))
