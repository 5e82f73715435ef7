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

ENGINES = {"ivf-pq4": "pergamon", "ivf-pq": "compactds"}
"""Kind -> the engine of `bench ann` that has it."""
OUT = Path(__file__).parents[2] / "datastore" / "plan" / CALIBRATION_NAME
MICRO = Path(__file__).parents[1] / "results" / "plan-micro.json"
_BETTER = 0.99
"""Of the squared error, what more columns must at least come down to."""
QUERIES_AT_ONCE = 1024
"""In work together while a batch is measured: 512 in each of two threads (bench/ann/peers/pergamon.py)."""


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


def main(
    results: Annotated[list[Path], typer.Argument(help="JSON files of `pergamon bench ann`.")],
    micro: Annotated[Path, typer.Option(help="JSON file of `python -m bench.plan.micro`.")] = MICRO,
    out: Annotated[Path, typer.Option(help="The file to write.")] = OUT,
) -> None:
    measured = [(path.name, read_results(path)) for path in results]
    small = json.loads(micro.read_text(encoding="utf-8"))
    times = _shared(small)
    command = "python -m bench.plan.calibrate " + " ".join(f"bench/results/{path.name}" for path in results)
    machine = measured[0][1].machine
    calibrated = Calibration(
        command=command,
        machine=f"{machine['cpu']} ({machine['simd']}), {machine['logical_cpus']} logical processors",
        kinds={kind: fit_kind(kind, measured, times) for kind in ENGINES if samples_of(kind, measured)},
        **times,
    )
    out.write_text(json.dumps(asdict(calibrated), indent=1) + "\n", encoding="utf-8")
    for kind, cost in calibrated.kinds.items():
        typer.echo(f"{kind}: {cost.single}, batch {cost.batch}, {cost.workspace}")


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


def samples_of(kind: str, measured: Sequence[tuple[str, Results]]) -> list[Sample]:
    """The warm points of the kind's engine."""
    found = []
    for _, results in measured:
        for engine in results.engines:
            if engine.engine == ENGINES[kind]:
                found += _samples(kind, results, engine)
    return found


def _samples(kind: str, results: Results, engine: EngineResult) -> list[Sample]:
    passages, dimension = results.dataset["vectors_count"], results.dataset["dimension"]
    params = engine.build.params
    settings = {name: params[name] for name in ("nlist", "pq_m", "copies") if params.get(name) is not None}
    spec = choose_index(IndexConfig(kind=kind, **settings), passages, dimension)  # type: ignore[arg-type]
    return [Sample(spec, passages, point, engine.idle_bytes) for point in engine.points if not point.cold]


def fit_kind(kind: str, measured: Sequence[tuple[str, Results]], times: dict[str, Linear]) -> KindCost:
    samples = samples_of(kind, measured)
    rows = [[1.0, one.code_bytes, one.depth, one.probes] for one in samples]
    alone = [1e3 * one.point.p50_ms for one in samples]
    batch = [1e6 / one.point.queries_per_second for one in samples]
    exact = [times["exact"].at(2 * one.spec.dimension * one.depth) for one in samples]
    coarse = [_coarse(one.spec, times) for one in samples]
    single_known = [one[0] + products for one, products in zip(coarse, exact, strict=True)]
    batch_known = [one[1] for one in coarse]
    beside = [one.point.anonymous_bytes - one.idle_bytes - _index_bytes(one) for one in samples]
    searched = [[1.0, QUERIES_AT_ONCE * one.probes, QUERIES_AT_ONCE * max(one.depth, 100.0)] for one in samples]
    return KindCost(
        engine=ENGINES[kind],
        single=_scan(fit(rows, alone, single_known)),
        batch=_scan(fit(rows, batch, batch_known)),
        workspace=Workspace(*fit(searched, beside)),
        measured=tuple(
            sorted(
                (_measured(name, kind, results) for name, results in measured if samples_of(kind, [(name, results)])),
                key=lambda one: one.passages,
            )
        ),
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


def _measured(name: str, kind: str, results: Results) -> Measured:
    samples = samples_of(kind, [(name, results)])
    points = [(OperatingPoint(one.point.recall, one.probes, one.depth), one.point.p50_ms) for one in samples]
    return Measured(name, samples[0].passages, samples[0].spec.nlist, front(points))


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
