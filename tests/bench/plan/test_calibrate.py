"""The calibration: what is fitted, and that it is the one of the results kept."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from bench.plan.calibrate import MICRO, calibrate, fit, read_runs
from datastore.plan.calibration import KindCost, Measured, OperatingPoint, Scan, Workspace, calibration, front

RESULTS = Path(__file__).parents[3] / "bench" / "results"


def test_the_kept_calibration_is_that_of_the_kept_results() -> None:
    kept = calibration()
    names = [name for name in kept.command.split() if name.endswith(".json")]
    runs = [run for name in names for run in read_runs(RESULTS / Path(name).name)]
    made = calibrate(runs, json.loads(MICRO.read_text(encoding="utf-8")))
    problem = f"results have changed since; run: {kept.command}"
    assert json.loads(json.dumps(asdict(made)), parse_float=_rounded) == json.loads(
        json.dumps(asdict(kept)), parse_float=_rounded
    ), problem


def _rounded(text: str) -> float:
    return float(f"{float(text):.6g}")


def test_a_fit_finds_what_values_were_made_of() -> None:
    random = np.random.default_rng(0)
    rows = np.column_stack([np.ones(50), random.uniform(1, 1000, (50, 3))])
    wanted = np.array([40.0, 0.5, 0.0, 3.0])
    known = random.uniform(0, 10, 50)
    found = fit(rows.tolist(), (rows @ wanted + known).tolist(), known.tolist())
    assert found == pytest.approx(wanted, abs=1e-6)


def test_a_fit_is_never_below_zero_and_takes_the_earlier_of_two_alike() -> None:
    rows = [[1.0, size, 2 * size] for size in (1.0, 2.0, 3.0, 4.0)]
    assert fit(rows, [size * 10 for size in (1.0, 2.0, 3.0, 4.0)]) == pytest.approx([0, 10, 0])
    assert fit([[1.0, size] for size in (1.0, 2.0, 3.0)], [3.0, 2.0, 1.0])[1] == 0


def test_the_front_has_no_point_that_another_beats() -> None:
    points = [
        (OperatingPoint(recall, 1, 1), cost) for recall, cost in ((0.9, 1.0), (0.95, 3.0), (0.94, 4.0), (0.97, 5.0))
    ]
    assert [point.recall for point in front(points)] == [0.9, 0.95, 0.97]


def kind(*sizes: tuple[int, float]) -> KindCost:
    """Measured at sizes, each with so many probes for a recall of 0.95."""
    measured = [
        Measured(
            "a.json",
            passages,
            1024,
            (
                OperatingPoint(0.9, probes / 4, 20),
                OperatingPoint(0.95, probes, 40),
                OperatingPoint(0.99, 8 * probes, 80),
            ),
        )
        for passages, probes in sizes
    ]
    return KindCost("pergamon", Scan(1, 0, 0, 0), Scan(1, 0, 0, 0), Workspace(0, 0, 0), tuple(measured))


def test_operating_points_lie_between_those_measured() -> None:
    one = kind((10**6, 40))
    assert one.operating_point(0.95, 10**6).nprobe == 40
    assert one.operating_point(0.5, 10**6).nprobe == 10
    assert one.operating_point(0.925, 10**9).nprobe == pytest.approx(20)
    two = kind((10**6, 40), (10**8, 80))
    assert two.operating_point(0.95, 10**7).nprobe == pytest.approx(40 * 2**0.5)
    assert two.operating_point(0.95, 10**10).nprobe == pytest.approx(160)
    falling = kind((10**6, 40), (10**8, 30))
    assert falling.operating_point(0.95, 10**12).nprobe == pytest.approx(30)
