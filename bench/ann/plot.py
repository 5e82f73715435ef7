"""Recall against latency and throughput, one line an engine, and cost against size, as PNG.

Needs the extra `bench` (matplotlib).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.ann.report import front, p50, seconds_per_query
from bench.ann.results import Results
from bench.ann.scaling import Scaling
from bench.ann.scaling_report import RECALLS, growth
from datastore.errors import FailedPrecondition

_SHOWN_FROM = 0.8
_COSTS = {
    "p50_ms": "p50 of a single query, ms",
    "batch_ms": "of a batch, ms a query",
    "codes": "codes scanned for a query",
}


def plot_results(results: Results, path: Path, cold: bool) -> bool:
    """Draw the fronts of all engines into `path`; False where there is nothing to draw.

    Raises:
        FailedPrecondition: matplotlib is not installed.
    """
    engines = [
        (result.engine, [point for point in result.points if point.cold is cold and point.recall >= _SHOWN_FROM])
        for result in results.engines
    ]
    engines = [(name, points) for name, points in engines if points]
    if not engines:
        return False
    figure = _figure(12, 5)
    alone, batch = figure.subplots(1, 2)
    for name, points in engines:
        for axes, cost, scale in ((alone, p50, 1.0), (batch, seconds_per_query, -1.0)):
            best = front(points, cost)
            values = [cost(point) if scale > 0 else 1 / cost(point) for point in best]
            axes.plot([point.recall for point in best], values, marker="o", label=name)
    for axes, label in ((alone, "p50 of a single query, ms"), (batch, "queries a second, in a batch")):
        axes.set_xlabel(f"recall@{results.k}")
        axes.set_ylabel(label)
        axes.set_yscale("log")
        axes.grid(visible=True, which="both", alpha=0.3)
    alone.legend()
    state = "cold" if cold else "warm"
    figure.suptitle(f"{results.dataset['vectors_count']:,} vectors, {state}, {len(results.cores)} threads")
    figure.savefig(path, dpi=110)
    return True


def plot_scaling(scaling: Scaling, path: Path) -> None:
    """Draw each cost against the size, both logarithmic, with the square root of the size from the first point on.

    Raises:
        FailedPrecondition: matplotlib is not installed.
    """
    figure = _figure(14, 4.5)
    for axes, (cost, label) in zip(figure.subplots(1, len(_COSTS)), _COSTS.items(), strict=True):
        for recall in RECALLS:
            found = [(size.vectors, at[cost]) for size in scaling.sizes if (at := size.at(recall)) and cost in at]
            if not found:
                continue
            sizes, costs = zip(*found, strict=True)
            fit = growth(scaling.sizes, cost, recall)
            name = f"recall@10 {recall:g}" + ("" if fit is None else f", exponent {fit:.2f}")
            (line,) = axes.plot(sizes, costs, marker="o", label=name)
            roots = [costs[0] * (size / sizes[0]) ** 0.5 for size in sizes]
            axes.plot(sizes, roots, linestyle="--", color=line.get_color(), alpha=0.5, label="square root")
            axes.legend()
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("vectors")
        axes.set_ylabel(label)
        axes.grid(visible=True, which="both", alpha=0.3)
    figure.savefig(path, dpi=110)


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise FailedPrecondition(
            "plots need matplotlib, which is not installed", mend="pip install 'pergamon[bench]'"
        ) from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
