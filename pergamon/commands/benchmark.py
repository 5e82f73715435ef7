"""`pergamon bench`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from bench.service import MODES, measure_service, read_queries
from pergamon.commands import benchmark_ann, benchmark_filtered, benchmark_scaling
from pergamon.output import print_json, progress_bar

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
app.command("ann", epilog=benchmark_ann.EXAMPLES)(benchmark_ann.ann)
app.command("ann-scaling", epilog=benchmark_scaling.EXAMPLES)(benchmark_scaling.ann_scaling)
app.command("filtered", epilog=benchmark_filtered.EXAMPLES)(benchmark_filtered.filtered)

EXAMPLES = """
**Example**

`pergamon bench service --store scifact.store --queries scifact/queries.jsonl --shards 2`
"""


@app.callback()
def _benchmarks() -> None:
    pass


@app.command("service", epilog=EXAMPLES)
def service(
    store: Path = typer.Option(..., "--store", help="The folder of a datastore."),
    queries: Path = typer.Option(..., "--queries", help="JSON Lines with a field text."),
    limit: int = typer.Option(200, "--limit", help="Queries taken from the file.", min=1),
    shards: int = typer.Option(2, "--shards", help="Servers behind the router.", min=1),
    k: int = typer.Option(10, "-k", help="Passages retrieved for a query."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Compare each search over gRPC, through a router and its shards, with the same search in process."""
    texts = read_queries(queries, limit)
    with progress_bar() as progress:
        task = progress.add_task("queries", total=len(MODES) * len(texts))
        results = measure_service(store, texts, shards, k, lambda done: progress.update(task, completed=done))
    if as_json:
        print_json([{**asdict(result), "added_p50": result.added_p50} for result in results])
        return
    table = Table(title=f"{store}, {shards} shards, {len(texts)} queries, milliseconds")
    for column in ("mode", "in process p50", "p99", "over gRPC p50", "p99", "added p50"):
        table.add_column(column, justify="left" if column == "mode" else "right")
    for result in results:
        figures = (result.local_p50, result.local_p99, result.wire_p50, result.wire_p99, result.added_p50)
        table.add_row(result.mode, *(f"{figure:.2f}" for figure in figures))
    Console(markup=False).print(table)
