"""Fits what the planner takes a search to cost to what `pergamon bench ann` measured.

`python -m bench.plan.calibrate bench/results/ann-1m.json bench/results/ann-10m.json` writes
`datastore/plan/calibration.json`. Run it whenever those results change; tests compare plans with them.

The coarse level and the exact products are taken from `bench.plan.micro`. The rest of a query's time, and memory beside
the index, are fitted as sums of what grows with probes, bytes of codes and candidates, none below zero, by the least
squares of relative errors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from bench.ann.measure import EngineResult, Point
from bench.ann.results import Results, read_results
from bench.ann.scaling import read_scaling
from datastore.ann.spec import IndexSpec, choose_index
from datastore.config import IndexConfig
from datastore.plan.calibration import (
    CALIBRATION_NAME,
    Calibration,
    KindCost,
    Linear,
    Measured,
    OperatingPoint,
    Scan,
    Workspace,
    front,
)
from datastore.plan.layout import coarse_code_bytes, memory_parts

ENGINES = {"ivf-pq4": "pergamon", "ivf-pq": "compactds", "ivf-rabitq": "pergamon-rabitq"}
"""Kind -> the engine of `bench ann` that has it."""
OUT = Path(__file__).parents[2] / "datastore" / "plan" / CALIBRATION_NAME
MICRO = Path(__file__).parents[1] / "results" / "plan-micro.json"
_BETTER = 0.99
"""Of the squared error, what more columns must at least come down to."""
QUERIES_AT_ONCE, CANDIDATES_AT_ONCE = 1024, 1 << 16
"""Of a thread while a batch is measured (bench/ann/peers/pergamon.py)."""


@dataclass(frozen=True, slots=True)
class Run:
    """What was measured of one kind on one collection of vectors."""

    source: str
    kind: str
    spec: IndexSpec
    passages: int
    engine: EngineResult

    def samples(self) -> list[Sample]:
        """The warm points."""
        idle = self.engine.idle_bytes
        return [Sample(self.spec, self.passages, point, idle) for point in self.engine.points if not point.cold]


@dataclass(frozen=True, slots=True)
class Sample:
    """A measured point, with the index that it was measured on."""

    spec: IndexSpec
    passages: int
    point: Point
    idle_bytes: int

    @property
    def probes(self) -> float:
        return float(self.point.params["nprobe"])

    @property
    def depth(self) -> float:
        return float(self.point.params["depth"])

    @property
    def code_bytes(self) -> float:
        return self.probes * self.spec.copies * self.passages / self.spec.nlist * self.spec.code_bytes

    @property
    def deepest(self) -> float:
        """The depth of recall@100, which was measured in the same process."""
        return max(self.depth, 100.0)

    @property
    def queries_at_once(self) -> float:
        """Searched for by both threads together (bench/ann/peers/pergamon.py)."""
        return 2 * min(QUERIES_AT_ONCE, CANDIDATES_AT_ONCE // self.deepest)


def main(
    results: Annotated[list[Path], typer.Argument(help="JSON files of `pergamon bench ann`.")],
    micro: Annotated[Path, typer.Option(help="JSON file of `python -m bench.plan.micro`.")] = MICRO,
    out: Annotated[Path, typer.Option(help="The file to write.")] = OUT,
) -> None:
    runs = [run for path in results for run in read_runs(path)]
    calibrated = calibrate(runs, json.loads(micro.read_text(encoding="utf-8")))
    out.write_text(json.dumps(asdict(calibrated), indent=1) + "\n", encoding="utf-8")
    for kind, cost in calibrated.kinds.items():
        typer.echo(f"{kind}: {cost.single}, batch {cost.batch}, {cost.workspace}")


def calibrate(runs: Sequence[Run], small: dict[str, Any]) -> Calibration:
    """Of runs, and of what `bench.plan.micro` measured."""
    times = _shared(small)
    names = dict.fromkeys(run.source for run in runs)
    machine = small["machine"]
    kinds = {kind: [run for run in runs if run.kind == kind] for kind in ENGINES}
    return Calibration(
        command="python -m bench.plan.calibrate " + " ".join(f"bench/results/{name}" for name in names),
        machine=f"{machine['cpu']} ({machine['simd']}), {machine['logical_cpus']} logical processors",
        kinds={kind: fit_kind(own, times) for kind, own in kinds.items() if own},
        **times,
    )


def read_runs(path: Path) -> list[Run]:
    """Those of our kinds in a file of `bench ann`, or of `bench ann-scaling`."""
    if "sizes" in json.loads(path.read_text(encoding="utf-8")):
        sizes = read_scaling(path).sizes
        return [Run(path.name, size.spec["kind"], IndexSpec(**size.spec), size.vectors, size.engine) for size in sizes]
    results = read_results(path)
    kinds = {engine: kind for kind, engine in ENGINES.items()}
    measured = [(kinds[engine.engine], engine) for engine in results.engines if engine.engine in kinds]
    return [_run(path.name, kind, results, engine) for kind, engine in measured]


def _run(name: str, kind: str, results: Results, engine: EngineResult) -> Run:
    passages, dimension = results.dataset["vectors_count"], results.dataset["dimension"]
    params = engine.build.params
    settings = {key: params[key] for key in ("nlist", "pq_m", "copies", "bits") if params.get(key) is not None}
    spec = choose_index(IndexConfig(kind=kind, **settings), passages, dimension)  # type: ignore[arg-type]
    return Run(name, kind, spec, passages, engine)


def _shared(small: dict[str, Any]) -> dict[str, Linear]:
    """What does not depend on the kind."""

    def line(rows: Sequence[dict[str, Any]], size: Callable[[dict[str, Any]], float], time: str) -> Linear:
        fixed, each = fit([[1.0, size(row)] for row in rows], [row[time] for row in rows])
        return Linear(fixed, each)

    def coded(row: dict[str, Any]) -> float:
        return float(row["nlist"] * row["dimension"] / 4)

    def whole(row: dict[str, Any]) -> float:
        return float(row["nlist"] * row["dimension"] * 4)

    return {
        "coarse_single": line(small["coarse"], coded, "single_us"),
        "coarse_batch": line(small["coarse"], coded, "batch_us"),
        "coarse_flat_single": line(small["coarse_flat"], whole, "single_us"),
        "coarse_flat_batch": line(small["coarse_flat"], whole, "batch_us"),
        "exact": line(small["rerank"], lambda row: float(2 * row["dimension"] * row["depth"]), "single_us"),
    }


def fit_kind(runs: Sequence[Run], times: dict[str, Linear]) -> KindCost:
    samples = [sample for run in runs for sample in run.samples()]
    rows = [[1.0, one.code_bytes, one.depth, one.probes] for one in samples]
    alone = [1e3 * one.point.p50_ms for one in samples]
    batch = [1e6 / one.point.queries_per_second for one in samples]
    coarse = [_coarse(one.spec, times) for one in samples]
    products = [times["exact"].at(2 * one.spec.dimension * one.depth) for one in samples]
    beside = [one.point.anonymous_bytes - one.idle_bytes - _index_bytes(one) for one in samples]
    searched = [[1.0, one.queries_at_once * one.probes, one.queries_at_once * one.deepest] for one in samples]
    return KindCost(
        engine=runs[0].engine.engine,
        single=_scan(fit(rows, alone, [one[0] + exact for one, exact in zip(coarse, products, strict=True)])),
        batch=_scan(fit(rows, batch, [one[1] for one in coarse])),
        workspace=Workspace(*fit(searched, beside)),
        measured=tuple(sorted(map(_measured, runs), key=lambda one: one.passages)),
    )


def _scan(coefficients: list[float]) -> Scan:
    fixed, code_byte, candidate, probe = coefficients
    return Scan(fixed, probe, code_byte, candidate)


def _coarse(spec: IndexSpec, times: dict[str, Linear]) -> tuple[float, float]:
    if coded := coarse_code_bytes(spec):
        return times["coarse_single"].at(coded), times["coarse_batch"].at(coded)
    compared = 4 * spec.nlist * spec.dimension
    return times["coarse_flat_single"].at(compared), times["coarse_flat_batch"].at(compared)


def _index_bytes(one: Sample) -> float:
    return sum(memory_parts(one.spec, one.passages, 1).values())


def _measured(run: Run) -> Measured:
    points = [(OperatingPoint(one.point.recall, one.probes, one.depth), one.point.p50_ms) for one in run.samples()]
    return Measured(run.source, run.passages, run.spec.nlist, front(points))


def fit(rows: Sequence[Sequence[float]], values: Sequence[float], known: Sequence[float] | None = None) -> list[float]:
    """Coefficients, none below zero, of `rows` that with `known` come nearest to `values`, errors taken relatively.

    Fewer and earlier columns are preferred to ones that explain hardly more: of one size alone, lists and the bytes in
    them are the same but for a factor, and it is bytes that grow on.
    """
    wanted = np.asarray(values, float)
    scaled = np.asarray(rows, float) / wanted[:, None]
    target = (wanted - np.asarray(known if known is not None else np.zeros(len(wanted)))) / wanted
    count = scaled.shape[1]
    best: tuple[float, NDArray[np.float64]] = (float("inf"), np.zeros(count))
    for size in range(count + 1):
        for chosen in combinations(range(count), size):
            columns = list(chosen)
            found, *_ = np.linalg.lstsq(scaled[:, columns], target, rcond=None)
            coefficients = np.zeros(count)
            coefficients[columns] = found
            error = float(np.sum((scaled @ coefficients - target) ** 2))
            if (found >= 0).all() and error < _BETTER * best[0]:
                best = (error, coefficients)
    return [float(value) for value in best[1]]


if __name__ == "__main__":
    typer.run(main)
