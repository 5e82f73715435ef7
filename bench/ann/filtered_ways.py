"""Ways to search what a filter leaves, one beside the other: what the house's choice among them rests on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.ann.filtered import Case, FilteredBench
from bench.ann.truth import recall
from datastore.ann.index import Cover, CoveringIndex, candidates, compact_quantizer
from datastore.store.reader import StoreReader
from retriever.dense import DEFAULT_CANDIDATE_DEPTH
from retriever.filtered import Accepted

_EXPONENTS = (0.5, 0.3, 0.2, 0.1)
_MOST_SCORED = 100_000
_QUERIES = 100
_SAMPLE = 1024

Rows = NDArray[np.int64]
Way = Callable[[NDArray[np.float32]], Sequence[Rows]]


@dataclass(frozen=True, slots=True)
class WayPoint:
    """One way for one filter, one query at a time, the whole search with exact scores; milliseconds."""

    case: Case
    way: str
    recall: float
    p50: float


def compare_ways(bench: FilteredBench, case: Case) -> list[WayPoint]:
    """Every way that the index has."""
    assert case.where is not None
    accepted = bench.accepted(case.where)
    queries = bench.queries(case)[:_QUERIES]
    truth = bench.truth(queries, accepted)
    points = []
    for name, way in _ways(bench.reader, accepted, bench.asked.nprobe).items():
        way(queries[:1])
        times, best = [], np.full((len(queries), bench.asked.k), -np.inf, np.float32)
        for row, query in zip(best, queries, strict=True):
            begin = time.perf_counter()
            scores = bench.reader.vectors.scores(query[None], way(query[None]))[0]
            times.append((time.perf_counter() - begin) * 1e3)
            top = np.sort(scores)[::-1][: len(row)]
            row[: len(top)] = top
        points.append(WayPoint(case, name, recall(best, truth, bench.asked.k), float(np.median(times))))
    return points


def _ways(reader: StoreReader, accepted: Accepted, asked_nprobe: int | None) -> dict[str, Way]:
    spec, index = reader.manifest.index, reader.ann
    nprobe = asked_nprobe or spec.default_nprobe
    passages = sum(segment.vectors.rows for segment in reader.segments)
    share, depth = accepted.count / passages, min(DEFAULT_CANDIDATE_DEPTH, accepted.count)
    ways: dict[str, Way] = {}

    def lists(probes: int, accept: NDArray[np.uint8] | Cover) -> Way:
        return lambda queries: candidates(index, queries, depth, probes, accept)

    if spec.nlist:
        ways["lists, probes as without filter"] = lists(nprobe, accepted.bitmap)
        probes = min(spec.nlist, round(nprobe / share**0.5))
        ways["lists, probes / share^0.5"] = lists(probes, accepted.bitmap)
    if isinstance(index, CoveringIndex):
        codes, in_lists = spec.copies * passages * nprobe / spec.nlist, accepted.in_lists(index)
        for exponent in _EXPONENTS:
            for more in (1.0, 1.25):
                cover = Cover(accepted.bitmap, in_lists, round(more * codes * share**exponent))
                ways[f"lists that cover {more:g} codes * share^{exponent:g}"] = lists(0, cover)
    if accepted.count <= _MOST_SCORED:
        rows = accepted.rows
        ways["all scored"] = lambda queries: [rows] * len(queries)
        sample = reader.vectors.read(np.unique(np.linspace(0, passages - 1, _SAMPLE).astype(np.int64)))
        if (quantizer := compact_quantizer(sample)) is not None:
            kept = quantizer.encode([reader.vectors.read(rows)])
            ways["codes of their own"] = lambda queries: [rows[np.sort(found)] for found in kept.search(queries, depth)]
    return ways
