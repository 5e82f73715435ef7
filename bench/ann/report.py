"""Results as Markdown: what each engine needs for a recall, its memory, disk and build, and every point measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from bench.ann.measure import EngineResult, Point
from bench.ann.results import Results

TARGETS = (0.90, 0.95, 0.98, 0.99, 0.995)
_ABSENT = "-"


def front(points: Sequence[Point], cost: Callable[[Point], float]) -> list[Point]:
    """The points that no other beats in both recall and cost, by rising recall."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (-point.recall, cost(point))):
        if not kept or cost(point) < cost(kept[-1]):
            kept.append(point)
    return kept[::-1]


def cost_at(points: Sequence[Point], target: float, cost: Callable[[Point], float]) -> float | None:
    """What `target` recall costs: between the two neighbouring points of the front, on a line in the logarithm of the
    cost; at the first point if that finds more already; None beyond the last."""
    best = front(points, cost)
    if not best or best[-1].recall < target:
        return None
    above = next(index for index, point in enumerate(best) if point.recall >= target)
    high = best[above]
    if above == 0 or high.recall == target:
        return cost(high)
    low = best[above - 1]
    share = (target - low.recall) / (high.recall - low.recall)
    return math.exp((1 - share) * math.log(cost(low)) + share * math.log(cost(high)))


def p50(point: Point) -> float:
    return point.p50_ms


def p99(point: Point) -> float:
    return point.p99_ms


def seconds_per_query(point: Point) -> float:
    return 1 / point.queries_per_second


def render_markdown(results: Results, plots: Sequence[str] = ()) -> str:
    dataset, machine = results.dataset, results.machine
    encoder = dataset.get("encoder")
    origin = ", ".join(dataset.get("inputs", [dataset.get("vectors", "")]))
    made_by = f", by the encoder {encoder['name']}" if encoder else ""
    lines = [
        f"# ANN engines at {dataset['vectors_count']:,} vectors of {dataset['dimension']} dimensions",
        "",
        f"Made by `{results.command}` at {results.created}.",
        "",
        f"- vectors: {origin}{made_by}; queries held out, at random; recall against exact search, ties allowed for",
        f"- machine: {machine['cpu']} ({machine['simd']}), {machine['logical_cpus']} logical processors, "
        f"{machine['memory_gib']} GiB, {machine['kernel']}; every engine pinned to processors "
        f"{', '.join(map(str, results.cores))}",
        *(f"- {result.engine}: {_versions(result)}" for result in results.engines),
        *(f"- {engine}: not measured: {reason}" for engine, reason in results.failed.items()),
    ]
    for plot in plots:
        lines += ["", f"![recall and cost]({plot})"]
    for cold in (False, True):
        if any(point.cold is cold for result in results.engines for point in result.points):
            lines += ["", *_targets(results, cold)]
    lines += ["", *_footprint(results)]
    for cold in (False, True):
        for result in results.engines:
            if any(point.cold is cold for point in result.points):
                lines += ["", *_points(results, result, cold)]
    return "\n".join(lines) + "\n"


def _targets(results: Results, cold: bool) -> list[str]:
    state = "cold: page cache of the index dropped before every query alone and every batch" if cold else "warm"
    lines = [
        f"## What recall@{results.k} costs, {state}",
        "",
        "p50 / p99 in milliseconds of one query at a time; queries a second of a batch. Between the measured points,",
        "listed below, on a line in the logarithm of the cost.",
        "",
        _row("engine", *(f"{target:g}" for target in TARGETS)),
        _row(*["---"] * (len(TARGETS) + 1)),
    ]
    for result in results.engines:
        points = [point for point in result.points if point.cold is cold]
        if points:
            lines.append(_row(result.engine, *(_cell(points, target) for target in TARGETS)))
    return lines


def _cell(points: Sequence[Point], target: float) -> str:
    alone, tail, batch = (cost_at(points, target, cost) for cost in (p50, p99, seconds_per_query))
    if alone is None or tail is None or batch is None:
        return _ABSENT
    return f"{alone:.2f} / {tail:.2f} ms, {1 / batch:,.0f}/s"


def _footprint(results: Results) -> list[str]:
    lines = [
        "## Memory, disk and build",
        "",
        "Memory is anonymous and shared, at its highest while searching; of it idle, before the index was opened. File",
        "pages are resident pages of files: the kernel's cache, which it may take back. Others is the share of the",
        "pinned processors' time that other processes took meanwhile, here and with every point below.",
        "",
        _row("engine", "memory MB", "idle MB", "file pages MB", "disk MB", "build s", "others", "open s", "built with"),
        _row("---", *["---:"] * 7, "---"),
    ]
    for result in results.engines:
        used = max((point.anonymous_bytes for point in result.points), default=0)
        mapped = max((point.file_bytes for point in result.points), default=0)
        figures = [f"{size / 1e6:,.0f}" for size in (used, result.idle_bytes, mapped, result.build.disk_bytes)]
        others = f"{result.build.others_share:.0%}"
        times = [f"{result.build.seconds:,.0f}", others, f"{result.open_seconds:.2f}"]
        lines.append(_row(result.engine, *figures, *times, _params(result.build.params)))
    return lines


def _points(results: Results, result: EngineResult, cold: bool) -> list[str]:
    lines = [
        f"### {result.engine}, {'cold' if cold else 'warm'}",
        "",
        _row(
            "searched with",
            f"recall@{results.k}",
            f"recall@{results.deep_k}",
            "p50 ms",
            "p99 ms",
            "queries/s",
            "others",
        ),
        _row("---", *["---:"] * 6),
    ]
    for point in result.points:
        if point.cold is cold:
            deep = _ABSENT if point.recall_deep is None else f"{point.recall_deep:.4f}"
            times = (f"{point.p50_ms:.3f}", f"{point.p99_ms:.3f}", f"{point.queries_per_second:,.0f}")
            others = f"{point.others_share:.0%}"
            lines.append(_row(_params(point.params), f"{point.recall:.4f}", deep, *times, others))
    return lines


def _versions(result: EngineResult) -> str:
    return ", ".join(f"{name} {version}" for name, version in result.build.versions.items())


def _params(params: dict[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in params.items())


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
