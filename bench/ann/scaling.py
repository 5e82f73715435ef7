"""How our engine's cost grows: the first vectors of one dataset, in several numbers, each with the index that a
datastore of that size gets by default."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.ann.dataset import Dataset, open_dataset, take_first
from bench.ann.machine import describe_machine
from bench.ann.measure import Build, EngineResult, Point, Setup, build_engine, measure_engine
from bench.ann.report import cost_at
from datastore.ann.spec import IndexSpec, choose_index
from datastore.config import IndexChoice, IndexConfig
from datastore.errors import InvalidArgument, NotFound

SEGMENT_PASSAGES = 131_072
"""Of a large datastore's segments."""
_ENGINE = "pergamon"
_PROBES = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_DEPTHS = ((0, 30), (32, 40), (96, 60), (192, 100), (384, 200))
"""(probes from which on, candidate depth): deeper where more is to be found."""
_SAMPLE = 500
"""Queries over which scanned codes are averaged."""


@dataclass(frozen=True, slots=True)
class SizeResult:
    """One size of the dataset."""

    vectors: int
    spec: dict[str, Any]
    segments: int
    engine: EngineResult
    scanned: dict[str, float]
    """Probes -> codes in the lists probed, mean of a query."""

    def at(self, recall: float) -> dict[str, float] | None:
        """What that recall costs, between the points measured; None if no point reaches it."""

        def probes(point: Point) -> float:
            return float(point.params["nprobe"])

        def codes(point: Point) -> float:
            return self.scanned[str(point.params["nprobe"])]

        costs = {
            "p50_ms": lambda point: point.p50_ms,
            "p99_ms": lambda point: point.p99_ms,
            "batch_ms": lambda point: 1e3 / point.queries_per_second,
            "probes": probes,
            "codes": codes,
        }
        found = {name: cost_at(self.engine.points, recall, cost) for name, cost in costs.items()}
        return {name: value for name, value in found.items() if value is not None} or None


@dataclass(frozen=True, slots=True)
class Scaling:
    command: str
    machine: dict[str, Any]
    dataset: dict[str, Any]
    cores: list[int]
    sizes: list[SizeResult]
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


def measure_scaling(
    setup: Setup, sizes: Sequence[int], kind: IndexChoice, command: str, on_point: Callable[[str, Point], None]
) -> Scaling:
    """Build, open and search each size; the datasets and indexes stay in `setup.work`.

    Raises:
        InvalidArgument: a size is more than the dataset has, or has an index of another kind than ivf-pq4.
    """
    results = []
    for size in sorted(sizes):
        _check_kind(kind, size, setup.dataset.base.shape[1])
        folder = setup.work / f"{size}"
        data = _first(setup.dataset, size, folder / "dataset")
        own = Setup(
            dataset=data,
            work=folder,
            cores=setup.cores,
            memory_cgroup=setup.memory_cgroup,
            single_budget_s=setup.single_budget_s,
            batch_budget_s=setup.batch_budget_s,
        )
        segments = math.ceil(size / SEGMENT_PASSAGES)
        build = build_engine(own, _ENGINE, {"kind": kind, "segments": segments})
        index = folder / _ENGINE / "index"
        spec = IndexSpec(**json.loads((index / "spec.json").read_text(encoding="utf-8")))
        sweep = [
            {"nprobe": probes, "depth": next(depth for least, depth in reversed(_DEPTHS) if probes >= least)}
            for probes in _PROBES
            if probes <= max(spec.nlist, _PROBES[0])
        ]
        measured = measure_engine(own, _ENGINE, build, sweep, partial(on_point, f"{size:,}"))
        scanned = codes_scanned(index, spec, data.queries[:_SAMPLE], [setting["nprobe"] for setting in sweep])
        results.append(SizeResult(size, asdict(spec), segments, measured, scanned))
    return Scaling(command, describe_machine(), setup.dataset.about, list(setup.cores), results)


def codes_scanned(
    index: Path, spec: IndexSpec, queries: NDArray[np.float32], probes: Sequence[int]
) -> dict[str, float]:
    """Mean number of codes in the lists that queries probe, for each number of probes; from the files of the index."""
    from datastore.ann.kinds.coarse import CoarseIndex

    sizes = _list_sizes(index, spec)
    with np.load(index / spec.template_name) as arrays:
        names = ("centroids", "coarse_codebooks", "margins")
        centroids, codebooks, margins = (arrays[name] for name in names)
    coarse = CoarseIndex(centroids, spec.seed, codebooks, margins)
    scanned = {}
    for count in probes:
        lists = coarse.probes(queries, count)[1]
        scanned[str(count)] = float(np.where(lists >= 0, sizes[lists], 0).sum(axis=1).mean())
    return scanned


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Of the power law that fits costs at these sizes best, in the least squares of the logarithms."""
    return round(float(np.polyfit(np.log(sizes), np.log(costs), 1)[0]), 3) + 0.0  # no -0.0


def write_scaling(scaling: Scaling, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(scaling), indent=1) + "\n", encoding="utf-8")


def read_scaling(path: Path) -> Scaling:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        sizes = []
        for size in tree["sizes"]:
            engine = size["engine"]
            points = [Point(**point) for point in engine["points"]]
            result = EngineResult(**{**engine, "build": Build(**engine["build"]), "points": points})
            sizes.append(SizeResult(**{**size, "engine": result}))
        return Scaling(**{**tree, "sizes": sizes})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotFound(f"{path} holds no results of bench ann-scaling: {error!r}", mend="run it again") from None


def _check_kind(kind: IndexChoice, size: int, dimension: int) -> None:
    spec = choose_index(IndexConfig(kind), size, dimension)
    if spec.kind != "ivf-pq4":
        raise InvalidArgument(
            f"{size} vectors get the index {spec.describe()}; scans are counted of ivf-pq4 alone",
            mend="measure larger sizes, or pass --index ivf-pq4",
            field="sizes",
        )


def _first(dataset: Dataset, size: int, folder: Path) -> Dataset:
    if size == len(dataset.base):
        return dataset
    try:
        made = open_dataset(folder)
    except NotFound:
        return take_first(dataset, size, folder)
    wanted = {**dataset.about, "vectors_count": size, "first_of": len(dataset.base)}
    return made if made.about == wanted else take_first(dataset, size, folder)


def _list_sizes(index: Path, spec: IndexSpec) -> NDArray[np.int64]:
    """Codes in each list, of all segments together: each file begins with its own (docs/FORMAT.md)."""
    lengths = [np.fromfile(path, "<u4", spec.nlist) for path in sorted(index.glob(f"*/{spec.codes_name}"))]
    total: NDArray[np.int64] = np.sum(lengths, axis=0, dtype=np.int64)
    return total
