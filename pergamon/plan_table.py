"""A plan as a table for people, and as a tree for programs."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from datastore.plan.results import Plan, ShapePlan
from datastore.quantities import human_bytes
from pergamon.output import to_plain


def as_tree(plan: Plan) -> dict[str, Any]:
    """All figures, by the names of the dataclasses in `datastore/plan/results.py`."""
    tree: dict[str, Any] = to_plain(plan)
    tree["shapes"] = {shape["machine"]["shape"]: shape for shape in tree["shapes"]}
    return tree


def show(plan: Plan) -> None:
    console = Console(markup=False, highlight=False)
    size, request = plan.size, plan.request
    console.print(
        f"{_count(size.passages)} passages of {size.tokens_a_passage:,.0f} tokens, {_count(size.tokens)} tokens; "
        f"{request.dimension} dimensions; recall@10 of {request.recall:g}",
        soft_wrap=True,
    )
    table = Table(show_header=True, header_style="", title_justify="left")
    table.add_column("")
    for shape in plan.shapes:
        table.add_column(f"{shape.machine.shape.upper()} machines")
    for name, cells in _rows(plan):
        if not cells:
            table.add_section()
        else:
            table.add_row(name, *cells)
    console.print(table)
    for warning in plan.warnings:
        console.print(f"note: {warning}", soft_wrap=True)
    for shape in plan.shapes:
        for warning in shape.warnings:
            console.print(f"note, {shape.machine.shape}: {warning}", soft_wrap=True)
    console.print(_assumptions(plan))
    console.print(
        f"Search times were measured on {plan.measured_on}. Options override prices and machines: see --help."
    )


def _rows(plan: Plan) -> list[tuple[str, list[str]]]:
    shapes = plan.shapes

    def row(name: str, cell: Any) -> tuple[str, list[str]]:
        return name, [cell(shape) for shape in shapes]

    return [
        row("machine", _machine),
        row("index", lambda s: s.index_description),
        row("shards", lambda s: f"{s.shards:,} ({_bound(s)})"),
        row("machines with replicas", lambda s: f"{s.shards * s.replicas:,}"),
        ("", []),
        row("RAM, index, all shards", lambda s: _size(s.index_memory_bytes_all_shards)),
        row("RAM, index, one shard", lambda s: human_bytes(s.index_memory_bytes)),
        row("  of it", lambda s: "\n".join(f"{name} {human_bytes(size)}" for name, size in s.index_memory.items())),
        row("RAM, serving process", lambda s: human_bytes(s.serving_bytes)),
        row("RAM, build at its highest", lambda s: human_bytes(s.build_peak_bytes)),
        row("GPU memory, each", lambda s: human_bytes(s.gpu_bytes) if s.gpu_bytes else "-"),
        ("", []),
        row("disk, all shards", lambda s: _size(s.disk_bytes)),
        row("  of it", lambda s: "\n".join(f"{name} {human_bytes(size)}" for name, size in s.disk.items())),
        row("segments", lambda s: f"{s.segments.total:,}, {s.segments.a_shard:,} a shard"),
        ("", []),
        row("build, one machine", lambda s: _hours(s.build_hours.total)),
        row(
            "  of it",
            lambda s: f"encoding {_hours(s.build_hours.encoding)}\nindexing {_hours(s.build_hours.indexing)}",
        ),
        row("build, elapsed", lambda s: f"{_hours(s.build_elapsed_hours)} on {s.build_machines:,} machines"),
        ("", []),
        row("search reads, a shard", _reads),
        row("search, vectors in memory", lambda s: f"{s.search.warm_ms:.3g} ms"),
        row("  of it", _search_parts),
        row(
            "search, vectors on disk",
            lambda s: f"{s.search.cold_ms:.3g} ms; {s.search.vectors_cached_share:.0%} of them fit memory",
        ),
        row("query encoding, and wire", lambda s: f"{s.search.encoding_ms:.3g} ms, {s.search.wire_ms:.3g} ms"),
        row(
            "throughput, a replica",
            lambda s: (
                f"{s.search.queries_per_second:,.0f}/s ({s.search.bound_by})\n"
                f"{s.search.queries_per_second_with_encoding:,.0f}/s encoding too"
            ),
        ),
        ("", []),
        row("cost of the build", lambda s: f"${s.cost.build:,.0f}"),
        row("cost of serving, a month", lambda s: f"${s.cost.serving_month:,.0f}"),
        ("", []),
        row("what dominates", lambda s: "\n".join(f"{need}: {part}" for need, part in s.dominant.items())),
    ]


def _machine(shape: ShapePlan) -> str:
    machine = shape.machine
    gpus = f", {machine.gpus} GPU x {human_bytes(machine.gpu_bytes)}" if machine.gpus else ""
    return (
        f"{machine.vcpus} vCPU, {human_bytes(machine.ram_bytes)}{gpus},\n"
        f"{machine.disk_bytes / 1e12:.3g} TB NVMe, ${machine.price:g}/h"
    )


def _bound(shape: ShapePlan) -> str:
    return shape.shards_bound_by if shape.shards == 1 else f"by {shape.shards_bound_by}"


def _reads(shape: ShapePlan) -> str:
    found = shape.search
    if shape.index.kind == "flat":
        return f"all {_count(found.codes_read)} vectors"
    return (
        f"{found.nprobe:,} of {shape.index.nlist:,} lists: {_count(found.codes_read)} codes,\n"
        f"{human_bytes(found.code_bytes_read)}; {found.candidate_depth} vectors"
    )


def _search_parts(shape: ShapePlan) -> str:
    found = shape.search
    return f"coarse {found.coarse_ms:.3g} ms\nscan {found.scan_ms:.3g} ms\nrerank {found.rerank_ms:.3g} ms"


def _size(count: float) -> str:
    unit, size = next((unit, 10**power) for unit, power in _DECIMAL if count >= 10**power or power == 6)
    return f"{human_bytes(count)} ({count / size:.1f} {unit})"


_DECIMAL = (("PB", 15), ("TB", 12), ("GB", 9), ("MB", 6))


def _count(count: float) -> str:
    for suffix, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= size:
            return f"{count / size:.3g}{suffix}"
    return f"{count:.0f}"


def _hours(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.1f} s"
    if hours < 1:
        return f"{hours * 60:.1f} min"
    return f"{hours:,.1f} h" if hours < 100 else f"{hours:,.0f} h"


def _assumptions(plan: Plan) -> Table:
    table = Table(title="it rests on", title_justify="left", show_header=False, box=None, pad_edge=False)
    for basis in ("given", "assumed", "published", "measured"):
        for constant in plan.assumptions:
            if constant.basis == basis:
                table.add_row(basis, constant.name, f"{constant.value:.4g}", constant.unit)
    return table
