"""What `pergamon bench ann` cannot tell apart: times of the coarse level by lists and dimension, of the rerank by its.

`python -m bench.plan.micro --out bench/results/plan-micro.json` measures both on random vectors, whose values do not
matter to the time: one query in one thread, batches in the two threads of a core at once.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from bench.ann.machine import describe_machine
from datastore.ann.kinds.coarse import CoarseIndex
from datastore.ann.kinds.library import faiss, use_threads
from datastore.store.exact import ExactVectors
from datastore.store.vectors import VectorFile

COARSE = ((2_048, 256), (8_192, 256), (32_768, 256), (32_768, 768), (131_072, 768))
"""(lists, dimension)."""
FLAT = ((8_192, 768), (16_384, 768), (32_768, 768))
"""Of a coarse level that compares all centroids, as ivf-pq has it: beyond any cache, as large ones are."""
RERANK_DIMENSIONS = (256, 384, 768)
RERANK_DEPTHS = (100, 1_000)
THREADS = 2
TOGETHER = 256
"""Queries of a batch."""
_PROBES = 32
_SINGLE = 200
_BATCHES = 25
_FILE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class CoarseTime:
    nlist: int
    dimension: int
    single_us: float
    """Median of one query alone."""
    batch_us: float
    """A query's share of the time in which `THREADS` threads search a batch of `TOGETHER` each: of a physical core."""


@dataclass(frozen=True, slots=True)
class RerankTime:
    dimension: int
    depth: int
    single_us: float


def main(out: Annotated[Path, typer.Option(help="The JSON file to write.")]) -> None:
    use_threads(1)
    rng = np.random.default_rng(0)
    coarse = [_coarse(nlist, dimension, rng) for nlist, dimension in COARSE]
    flat = [_coarse_flat(nlist, dimension, rng) for nlist, dimension in FLAT]
    rerank = [time for dimension in RERANK_DIMENSIONS for time in _rerank(dimension, rng)]
    measured = {
        "command": f"python -m bench.plan.micro --out {out}",
        "machine": describe_machine(),
        "coarse": [asdict(one) for one in coarse],
        "coarse_flat": [asdict(one) for one in flat],
        "rerank": [asdict(one) for one in rerank],
    }
    out.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


def _coarse(nlist: int, dimension: int, rng: np.random.Generator) -> CoarseTime:
    return _timed(CoarseIndex(_unit(rng, nlist, dimension), 0), nlist, dimension, rng)


def _coarse_flat(nlist: int, dimension: int, rng: np.random.Generator) -> CoarseTime:
    index = faiss.IndexFlatIP(dimension)
    index.add(_unit(rng, nlist, dimension))
    return _timed(index, nlist, dimension, rng)


def _timed(index: Any, nlist: int, dimension: int, rng: np.random.Generator) -> CoarseTime:
    queries = _unit(rng, max(_SINGLE, TOGETHER), dimension)
    single = _median_us([partial(index.search, query[None], _PROBES) for query in queries[:_SINGLE]])

    def search_batch(_: int) -> None:
        use_threads(1)
        index.search(queries[:TOGETHER], _PROBES)

    with ThreadPoolExecutor(THREADS) as pool:
        times = _times_us([lambda: list(pool.map(search_batch, range(THREADS)))] * _BATCHES)
    batch = float(times.min()) / TOGETHER / THREADS  # what other processes take can only add
    return CoarseTime(nlist, dimension, single, batch)


def _rerank(dimension: int, rng: np.random.Generator) -> list[RerankTime]:
    rows = _FILE_BYTES // (2 * dimension)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.f16"
        path.write_bytes(rng.standard_normal((rows, dimension), np.float32).astype(np.float16).tobytes())
        with VectorFile(path, rows, dimension) as file:
            exact = ExactVectors([file], dimension)
            query = _unit(rng, 1, dimension)
            times = []
            for depth in RERANK_DEPTHS:
                chosen = [np.sort(rng.choice(rows, depth, replace=False)) for _ in range(_SINGLE)]
                calls = [partial(exact.scores, query, [mine]) for mine in chosen]
                times.append(RerankTime(dimension, depth, _median_us(calls)))
    return times


def _unit(rng: np.random.Generator, count: int, dimension: int) -> NDArray[np.float32]:
    vectors = rng.standard_normal((count, dimension), np.float32)
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _median_us(calls: Sequence[Callable[[], object]]) -> float:
    return float(np.median(_times_us(calls)))


def _times_us(calls: Sequence[Callable[[], object]]) -> NDArray[np.float64]:
    calls[0]()
    seconds = []
    for call in calls:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return np.array(seconds) * 1e6


if __name__ == "__main__":
    typer.run(main)
