"""`pergamon info` and `pergamon verify`."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from datastore.errors import DataLoss
from datastore.info import StoreInfo, describe_store
from datastore.verify import verify as verify_datastore
from pergamon.curve import curve_table
from pergamon.output import human_bytes, print_json, progress_bar, to_plain

INFO_EXAMPLES = "**Examples**\n\n`pergamon info my.store`\n\n`pergamon info my.store --json | jq .passages`"
VERIFY_EXAMPLES = "**Examples**\n\n`pergamon verify my.store && echo sound`\n\n`pergamon verify my.store --recall 200`"

_STORE = typer.Argument(..., help="The folder of a datastore.")
_JSON = typer.Option(False, "--json", help="Print one JSON object.")


def info(store: Path = _STORE, as_json: bool = _JSON) -> None:
    """Show what a datastore holds: counts, sizes, encoder, index, and what recall costs."""
    described = describe_store(store)
    if as_json:
        print_json(to_plain(described))
    else:
        console = Console(markup=False)
        console.print(_table(described))
        if described.operating_curve is not None:
            console.print(curve_table(described.operating_curve, described.passages))


def _table(described: StoreInfo) -> Table:
    encoder = described.encoder
    table = Table(title=f"{described.store}, generation {described.generation}", show_header=False)
    table.add_row("documents", f"{described.documents:,}")
    table.add_row("passages", f"{described.passages:,} in {described.segments} segments")
    if described.deleted_passages:
        table.add_row(
            "deleted",
            f"{described.deleted_documents:,} documents, {described.deleted_passages:,} passages: on disk, and counted "
            "below, until compact",
        )
    table.add_row("words", f"{described.words:,}")
    table.add_row("tokens", f"{described.tokens:,}")
    table.add_row("rejected", f"{described.rejected:,} input records")
    if described.truncated_passages:
        share = described.truncated_passages / described.passages
        table.add_row(
            "longer than the encoder reads",
            f"{described.truncated_passages:,} passages ({share:.0%}) have over {encoder.max_tokens} tokens: their "
            "tails are found by BM25 alone; use fewer --chunk-words",
        )
    table.add_section()
    table.add_row("encoder", f"{encoder.name}, {encoder.dimension} dimensions, {encoder.pooling} pooling")
    table.add_row("encoder revision", encoder.revision)
    table.add_row("index", f"{described.index}: {described.index_reason}")
    if described.drift is not None:
        table.add_row(
            "drift",
            f"{described.drift.ratio:.2f}, over {described.drift.added_passages:,} passages added since the training",
        )
    if described.retrain:
        table.add_row("train anew", f"{described.retrain} (pergamon compact --retrain)")
    if described.operating_curve_stale:
        table.add_row("recall", "was measured before much of this came or went: pergamon tune measures it again")
    table.add_row("index in memory", human_bytes(described.index_memory_bytes))
    table.add_row("bm25", ", ".join(f"{key} {value}" for key, value in described.bm25.items()))
    table.add_section()
    for part, size in described.bytes_by_part.items():
        table.add_row(f"{part} on disk", human_bytes(size))
    table.add_row(
        "total on disk", f"{human_bytes(described.bytes_total)}, {described.bytes_per_passage:,.0f} bytes a passage"
    )
    table.add_row("search on GPUs", described.gpu_search)
    table.add_section()
    table.add_row("created", described.created)
    table.add_row("format version", str(described.format_version))
    return table


def verify(
    store: Path = _STORE,
    recall: int = typer.Option(
        0, "--recall", metavar="N", help="With N stored vectors, also measure what a search finds of their neighbours."
    ),
    as_json: bool = _JSON,
) -> None:
    """Check every byte of a datastore against its checksums, and its parts against one another; name what is wrong."""
    with progress_bar() as progress:
        task = progress.add_task("reading bytes", total=None)
        report = verify_datastore(
            store, lambda done, total: progress.update(task, completed=done, total=total), recall_queries=recall
        )
    if as_json:
        print_json(to_plain(report))
    else:
        for orphan in report.orphans:
            typer.echo(f"note: {store / orphan} belongs to no generation", err=True)
        for generation in report.old_generations:
            typer.echo(f"note: generation {generation} is held by a reader", err=True)
        for problem in report.problems[1:]:
            typer.echo(f"damaged: {problem}", err=True)
        if report.recall is not None:
            found = report.recall
            typer.echo(
                f"recall@{found.k} {found.recall:.3f} (standard error {found.recall_error:.3f}) over {found.queries} "
                f"stored vectors, with {found.nprobe} lists and {found.candidate_depth} candidates"
            )
        if not report.problems:
            typer.echo(f"sound: {report.files} files, {human_bytes(report.bytes)}, generation {report.generation}")
    if report.problems:
        raise DataLoss(report.problems[0], mend=f"run: pergamon repair {store} --dry-run; or restore the named files")
