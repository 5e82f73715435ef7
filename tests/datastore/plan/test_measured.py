"""Plans against what was measured: every file of results that the calibration was fitted to.

A test here fails when an engine was measured anew and costs something else: run `python -m bench.plan.calibrate` with
the files in bench/results, as its first line of calibration.json says.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.ann.measure import Point
from bench.ann.report import cost_at, p50
from bench.plan.calibrate import Run, read_runs
from datastore.ann.spec import choose_index
from datastore.config import IndexConfig
from datastore.plan.calibration import calibration
from datastore.plan.constants import Constants
from datastore.plan.layout import disk_parts, memory_parts
from datastore.plan.results import ShapePlan
from datastore.plan.search import Settings, cpu_times, kind_cost

RESULTS = Path(__file__).parents[3] / "bench" / "results"
SOURCES = sorted({one.source for cost in calibration().kinds.values() for one in cost.measured})
RUNS = [run for source in SOURCES for run in read_runs(RESULTS / source)]
DEEPEST = 200
TARGETS = (0.9, 0.95, 0.98, 0.99)
each_run = pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.kind}, {run.passages:,}")


def test_a_million_was_measured() -> None:
    assert any(run.passages == 10**6 and run.kind == "ivf-pq4" for run in RUNS)


@each_run
def test_the_index_is_what_a_build_chooses(run: Run) -> None:
    config = IndexConfig(kind=run.kind, copies=run.spec.copies, bits=run.spec.bits or 1)  # type: ignore[arg-type]
    chosen = choose_index(config, run.passages, run.spec.dimension)
    assert (chosen.nlist, chosen.copies) == (run.spec.nlist, run.spec.copies)


@each_run
def test_memory_is_within_a_tenth(run: Run) -> None:
    """Of the process: what it was before, the index, and what searches take, at the depths that plans choose."""
    index = sum(memory_parts(run.spec, run.passages, 1).values())
    workspace = kind_cost(calibration(), run.spec).workspace
    for sample in run.samples():
        if sample.depth > DEEPEST and run.kind != "ivf-pq":
            continue
        searched = workspace.at(sample.queries_at_once, sample.probes, sample.deepest)
        assert sample.idle_bytes + index + searched == pytest.approx(sample.point.anonymous_bytes, rel=0.1)


@each_run
def test_disk_is_within_a_tenth(run: Run) -> None:
    planned = sum(disk_parts(run.spec, run.passages, 1).values())
    assert planned == pytest.approx(run.engine.build.disk_bytes, rel=0.1)


@each_run
@pytest.mark.parametrize("recall", TARGETS)
def test_latency_is_within_three_tenths(run: Run, recall: float, on_cpu: Callable[..., ShapePlan]) -> None:
    """Of the whole plan: probes and depth for the recall, then their cost."""
    points: list[Point] = [sample.point for sample in run.samples()]
    measured = cost_at(points, recall, p50)
    if measured is None:
        pytest.skip(f"no point reached {recall}")
    settings = {"kind": run.kind, "nlist": run.spec.nlist, "pq_m": run.spec.pq_m or None}
    shape = on_cpu(
        passages=run.passages,
        dimension=run.spec.dimension,
        recall=recall,
        index=settings,
        segment_passages=run.passages,
    )
    assert shape.shards == 1
    assert shape.search.warm_ms == pytest.approx(measured, rel=0.3)


@each_run
def test_throughput_is_within_three_tenths_on_the_whole(run: Run) -> None:
    """Of one core, over all points: single ones scatter more than that."""
    ratios = []
    for sample in run.samples():
        codes = sample.probes * run.spec.copies * run.passages / run.spec.nlist
        settings = Settings(round(sample.probes), round(sample.depth), codes)
        times = cpu_times(calibration(), run.spec, settings, 1, Constants())
        ratios.append(1e3 / times.batch_ms / sample.point.queries_per_second)
    ratios.sort()
    assert ratios[len(ratios) // 2] == pytest.approx(1, rel=0.3)
