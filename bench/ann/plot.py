"""Recall against latency and throughput, one line an engine, as PNG. Needs the extra `bench` (matplotlib)."""

from __future__ import annotations

from pathlib import Path

from bench.ann.report import front, p50, seconds_per_query
from bench.ann.results import Results
from datastore.errors import FailedPrecondition

_SHOWN_FROM = 0.8


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
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise FailedPrecondition(
            "plots need matplotlib, which is not installed", mend="pip install 'pergamon[bench]'"
        ) from None
    figure = Figure(figsize=(12, 5), layout="constrained")
    FigureCanvasAgg(figure)
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
