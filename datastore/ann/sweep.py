"""Measuring the operating curve of an index: recall against exact search, over probes and candidate depths.

A query's true neighbours are those with the greatest exact inner products, ties counted as found. Each number of probes
is searched with once, at the greatest depth; what a smaller depth would have found are the best of that by their codes.
Settings are compared by the bytes that they read, which is the same on every machine: codes of lists of mean length,
and a page of disk for each candidate. Times are measured for the few settings that are kept.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from datastore.ann.index import AnnIndex, candidates
from datastore.ann.neighbours import nearest_rows
from datastore.ann.operating_curve import OperatingPoint, RecallCurve, front
from datastore.ann.spec import IndexSpec
from datastore.filters.survivors import Survivors
from datastore.store.exact import ExactVectors
from datastore.store.vectors import VectorFile

_MARGIN = 32
"""Candidates beyond k at least, as searches take them."""
_DEEPENINGS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
"""Candidate depths, as multiples of k and the margin."""
_TIED = 16
"""Neighbours beyond k that are scored again: a blocked product may exchange near-ties."""
_ENOUGH = 0.999
"""Recall assured, beyond which more lists are not tried."""
_STEPS_IN_VAIN = 3
"""So many times more lists (twice in two steps) without a neighbour more end the sweep: codes, not lists, limit it."""
_BLOCK_BYTES = 64 << 20
"""Of vectors and of their scores, at once."""
_TOGETHER = 16
"""Queries of one search: thousands of candidates each."""
_TIMED_QUERIES = 32
_PAGE = 4096

OnProgress = Callable[[str, int, int], None]
"""(stage, done, in all): passages compared in the stage `truth`, then numbers of lists tried in the stage `sweep`."""


@dataclass(frozen=True, slots=True)
class OpenIndex:
    """Codes and exact vectors of some segments."""

    spec: IndexSpec
    index: AnnIndex
    files: Sequence[VectorFile]
    live: Survivors | None = None
    """The rows that may be found, counting on from file to file; None for all."""

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def passages(self) -> int:
        """That may be found."""
        return self.rows if self.live is None else self.live.count

    @property
    def accept(self) -> NDArray[np.uint8] | None:
        """For searches: a bitmap of `live`."""
        return None if self.live is None else self.live.bitmap

    @property
    def vectors(self) -> ExactVectors:
        return ExactVectors(self.files, self.spec.dimension)


@dataclass(frozen=True, slots=True)
class Sample:
    """Queries to measure with."""

    vectors: NDArray[np.float32]
    """[n, dimension]."""
    own: NDArray[np.int64]
    """[n]: the row that a query is the vector of, which it must not find; -1 for none."""


_Cuts = dict[int, NDArray[np.float32]]
"""k -> [n]: exact score of each query's k-th neighbour. What scores as much is one of the k."""


def measure_curves(
    over: OpenIndex,
    sample: Sample,
    ks: Sequence[int],
    on_progress: OnProgress = lambda stage, done, total: None,
) -> tuple[RecallCurve, ...]:
    """A curve for each of `ks`, ascending, each less than the number of passages."""
    spec = over.spec
    cuts = _find_cuts(over, sample, ks, on_progress)
    depths = {k: _depths(k, over.passages) for k in ks}
    tried: dict[int, list[OperatingPoint]] = {k: [] for k in ks}
    steps = _probes(spec.nlist)
    in_vain = 0
    for step, nprobe in enumerate(steps, 1):
        found = _found(over, sample, cuts, nprobe, depths)
        codes = round(nprobe * spec.copies * over.rows / spec.nlist)
        more = False
        for k in ks:
            before = max((point.recall for point in tried[k]), default=0.0)
            tried[k] += [_point(nprobe, depth, codes, found[k, depth]) for depth in depths[k]]
            more |= max(point.recall for point in tried[k]) > before
        on_progress("sweep", step, len(steps))
        in_vain = 0 if more else in_vain + 1
        if in_vain == _STEPS_IN_VAIN or all(max(point.assured for point in tried[k]) >= _ENOUGH for k in ks):
            break
    return tuple(RecallCurve(k, _timed(over, sample, front([(_cost(spec, p), p) for p in tried[k]]))) for k in ks)


def recall_at(over: OpenIndex, sample: Sample, k: int, nprobe: int, depth: int) -> tuple[float, float]:
    """(mean, its standard error) of the share of the k nearest passages found with one setting."""
    cuts = _find_cuts(over, sample, [k], lambda stage, done, total: None)
    point = _point(nprobe, depth, 0, _found(over, sample, cuts, nprobe, {k: [depth]})[k, depth])
    return point.recall, point.recall_error


def _depths(k: int, passages: int) -> list[int]:
    return sorted({min(passages, math.ceil(factor * (k + _MARGIN))) for factor in _DEEPENINGS})


def _probes(nlist: int) -> list[int]:
    """Numbers of lists, each the square root of 2 times the one before, up to all."""
    steps = range(2 * max(nlist.bit_length(), 1))
    return sorted({min(nlist, round(2 ** (step / 2))) for step in steps} | {nlist})


def _find_cuts(over: OpenIndex, sample: Sample, ks: Sequence[int], on_progress: OnProgress) -> _Cuts:
    nearest = nearest_rows(_blocks(over, max(sample.vectors.shape), on_progress), sample.vectors, ks[-1] + 1 + _TIED)
    if over.live is not None:
        live = over.live.rows
        nearest = [live[mine] for mine in nearest]
    others = [mine[mine != own] for mine, own in zip(nearest, sample.own.tolist(), strict=True)]
    scores = [np.sort(found)[::-1] for found in over.vectors.scores(sample.vectors, others)]
    return {k: np.array([mine[k - 1] for mine in scores], np.float32) for k in ks}


def _blocks(over: OpenIndex, width: int, on_progress: OnProgress) -> Iterator[NDArray[np.float32]]:
    """All that may be found, in blocks that take no more than _BLOCK_BYTES with `width` values for each row."""
    rows, done = max(1024, _BLOCK_BYTES // (4 * width)), 0
    live = None if over.live is None else np.unpackbits(over.live.bitmap, bitorder="little").view(bool)
    for file in over.files:
        for start in range(0, file.rows, rows):
            stop = min(start + rows, file.rows)
            block = file.read_block(start, stop)
            yield block if live is None else block[live[done : done + len(block)]]
            done += stop - start
            on_progress("truth", done, over.rows)


def _found(
    over: OpenIndex, sample: Sample, cuts: _Cuts, nprobe: int, depths: dict[int, list[int]]
) -> dict[tuple[int, int], NDArray[np.float64]]:
    """(k, depth) -> share of each query's k neighbours that are among the first so many candidates."""
    vectors, deepest = over.vectors, max(max(wanted) for wanted in depths.values())
    shares = {(k, depth): np.empty(len(sample.vectors)) for k in depths for depth in depths[k]}

    def search(start: int) -> None:
        queries = np.ascontiguousarray(sample.vectors[start : start + _TOGETHER])
        by_code, listed = over.index.search(queries, deepest, nprobe, over.accept)
        listed = np.take_along_axis(listed, np.argsort(-by_code, axis=1, kind="stable"), axis=1)
        own = sample.own[start : start + _TOGETHER].tolist()
        # An index that has passages several times lists more of them than its depth, to find as many different ones.
        entries = listed.shape[1] / deepest
        distinct = [_distinct(mine, row) for mine, row in zip(listed, own, strict=True)]
        scores = vectors.scores(queries, [rows for rows, _ in distinct])
        for query, (mine, (_, places)) in enumerate(zip(scores, distinct, strict=True), start):
            for k, cut in cuts.items():
                right = places[mine >= cut[query]] / entries
                for depth in depths[k]:
                    shares[k, depth][query] = min(k, int(np.count_nonzero(right < depth))) / k

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(search, range(0, len(sample.vectors), _TOGETHER)))
    return shares


def _distinct(listed: NDArray[np.int64], own: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(rows, places): distinct rows but `own`, ascending, and where in `listed` each comes first."""
    rows, places = np.unique(listed, return_index=True)
    keep = (rows >= 0) & (rows != own)
    return rows[keep], places[keep]


def _point(nprobe: int, depth: int, codes: int, shares: NDArray[np.float64]) -> OperatingPoint:
    error = float(shares.std(ddof=1)) / math.sqrt(len(shares)) if len(shares) > 1 else 0.0
    return OperatingPoint(nprobe, depth, round(float(shares.mean()), 6), round(error, 6), codes, 0.0)


def _cost(spec: IndexSpec, point: OperatingPoint) -> float:
    """Bytes read, on the whole, by a search that nothing is cached for."""
    return point.codes * spec.code_bytes + point.candidate_depth * max(_PAGE, 2 * spec.dimension)


def _timed(over: OpenIndex, sample: Sample, points: Sequence[OperatingPoint]) -> tuple[OperatingPoint, ...]:
    queries = [query[None] for query in sample.vectors[:_TIMED_QUERIES]]
    vectors = over.vectors
    timed = []
    for point in points:
        taken = []
        for query in queries:
            start = time.perf_counter()
            vectors.scores(query, candidates(over.index, query, point.candidate_depth, point.nprobe, over.accept))
            taken.append(time.perf_counter() - start)
        timed.append(replace(point, milliseconds=round(1e3 * float(np.median(taken)), 4)))
    return tuple(timed)
