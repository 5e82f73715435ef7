"""The growth of our engine's cost, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from bench.ann.scaling import Scaling, SizeResult, exponent
from datastore.config import IndexConfig
from datastore.plan.planner import make_plan
from datastore.plan.request import PlanRequest
from datastore.plan.results import ShapePlan

RECALLS = (0.95, 0.99)


def growth(sizes: Sequence[SizeResult], cost: str, recall: float) -> float | None:
    """The exponent with which a cost grows; None unless two sizes reach that recall."""
    found = [(size.vectors, at[cost]) for size in sizes if (at := size.at(recall)) is not None and cost in at]
    return exponent(*zip(*found, strict=True)) if len(found) > 1 else None


def planned(size: SizeResult, recall: float) -> ShapePlan:
    """What `pergamon plan` says of a datastore of that size, on a CPU like the one that its calibration is of."""
    config = IndexConfig(size.spec["kind"])
    request = PlanRequest(passages=size.vectors, dimension=size.spec["dimension"], index=config, recall=recall)
    return next(shape for shape in make_plan(request).shapes if shape.search.on == "cpu")


def render_scaling(scaling: Scaling, plot: str | None = None) -> str:
    machine, dataset = scaling.machine, scaling.dataset
    encoder = dataset.get("encoder")
    origin = ", ".join(dataset.get("inputs", [dataset.get("vectors", "")]))
    words = dataset.get("passage_words")
    cut = f", cut into passages of {' and of '.join(map(str, words))} words, repeats left out" if words else ""
    lines = [
        f"# Growth of the ANN index to {max(size.vectors for size in scaling.sizes):,} vectors",
        "",
        f"Made by `{scaling.command}` at {scaling.created}.",
        "",
        f"- vectors: {origin}{cut}" + (f"; by the encoder {encoder['name']}" if encoder else ""),
        f"- each size: the first of the same {dataset['vectors_count']:,} shuffled vectors of {dataset['dimension']} "
        "dimensions, against exact search over these; the index that a datastore of that size gets by default",
        f"- machine: {machine['cpu']} ({machine['simd']}), {machine['logical_cpus']} logical processors, "
        f"{machine['memory_gib']} GiB, {machine['kernel']}; pinned to processors {', '.join(map(str, scaling.cores))}",
    ]
    if plot is not None:
        lines += ["", f"![cost and size]({plot})"]
    for recall in RECALLS:
        lines += ["", *_costs(scaling.sizes, recall)]
    lines += ["", *_footprint(scaling.sizes)]
    for size in scaling.sizes:
        lines += ["", *_points(size)]
    return "\n".join(lines) + "\n"


def _costs(sizes: Sequence[SizeResult], recall: float) -> list[str]:
    lines = [
        f"## At recall@10 of {recall:g}, warm, with rerank",
        "",
        "Between the measured points. The exponent is that of the power law that fits best: 0.5 is the square root.",
        "Planned is what `pergamon plan` says of a query alone.",
        "",
        _row("vectors", "p50 ms", "p99 ms", "batch queries/s", "lists probed", "codes scanned", "planned ms"),
        _row(*["---:"] * 7),
    ]
    for size in sizes:
        at = size.at(recall)
        if at is None:
            lines.append(_row(f"{size.vectors:,}", *["-"] * 6))
            continue
        times = (f"{at['p50_ms']:.2f}", f"{at['p99_ms']:.2f}", f"{1e3 / at['batch_ms']:,.0f}")
        read = (f"{at['probes']:,.0f}", f"{at['codes']:,.0f}")
        lines.append(_row(f"{size.vectors:,}", *times, *read, f"{planned(size, recall).search.warm_ms:.2f}"))
    fits = [growth(sizes, cost, recall) for cost in ("p50_ms", "p99_ms", "batch_ms", "probes", "codes")]
    lines.append(_row("exponent", *("-" if fit is None else f"{fit:.2f}" for fit in fits), ""))
    return lines


def _footprint(sizes: Sequence[SizeResult]) -> list[str]:
    lines = [
        "## Memory, disk, build and opening",
        "",
        "Memory is anonymous, the interpreter and its libraries taken off (idle); planned is what `pergamon plan` says",
        "of the index, and of a build's peak with the process in it.",
        "",
        _row(
            "vectors",
            "lists",
            "segments",
            "memory MB: planned",
            "open",
            "peak of opening",
            "of searching",
            "bytes a vector",
            "open s",
            "build s",
            "build peak MB",
            "planned",
            "disk MB",
        ),
        _row(*["---:"] * 13),
    ]
    for size in sizes:
        engine = size.engine
        searching = max(point.anonymous_bytes for point in engine.points)
        taken = [engine.open_bytes, engine.open_peak_bytes, searching]
        plan = planned(size, RECALLS[0])
        megabytes = [f"{plan.index_memory_bytes_all_shards / 1e6:,.0f}"]
        megabytes += [f"{(value - engine.idle_bytes) / 1e6:,.0f}" for value in taken]
        lines.append(
            _row(
                f"{size.vectors:,}",
                f"{size.spec['nlist']:,}",
                f"{size.segments}",
                *megabytes,
                f"{(searching - engine.idle_bytes) / size.vectors:.1f}",
                f"{engine.open_seconds:.1f}",
                f"{engine.build.seconds:,.0f}",
                f"{engine.build.peak_bytes / 1e6:,.0f}",
                f"{plan.build_peak_bytes / 1e6:,.0f}",
                f"{engine.build.disk_bytes / 1e6:,.0f}",
            )
        )
    return lines


def _points(size: SizeResult) -> list[str]:
    lines = [
        f"### {size.vectors:,} vectors",
        "",
        _row("probes", "depth", "codes scanned", "recall@10", "recall@100", "p50 ms", "p99 ms", "queries/s", "others"),
        _row(*["---:"] * 9),
    ]
    for point in size.engine.points:
        probes = str(point.params["nprobe"])
        deep = "-" if point.recall_deep is None else f"{point.recall_deep:.4f}"
        recalls = (f"{size.scanned[probes]:,.0f}", f"{point.recall:.4f}", deep)
        times = (f"{point.p50_ms:.3f}", f"{point.p99_ms:.3f}", f"{point.queries_per_second:,.0f}")
        lines.append(_row(probes, str(point.params["depth"]), *recalls, *times, f"{point.others_share:.0%}"))
    return lines


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
