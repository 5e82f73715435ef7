"""`pergamon eval`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from bench.beir import read_judged
from bench.retrieval import DEPTH, measure, retrieve, write_run
from pergamon.commands.search import FusionOption, ModeOption
from pergamon.output import print_json, progress_bar
from retriever.api import Fusion, SearchRequest
from retriever.client import open_target

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

EXAMPLES = """
**Examples**

`pergamon eval retrieval --beir scifact/ --store scifact.store --mode bm25`

`pergamon eval retrieval --beir scifact/ --store grpc://127.0.0.1:7700 --run hybrid.run --json`
"""


@app.callback()
def _evaluations() -> None:
    pass


@app.command("retrieval", epilog=EXAMPLES)
def retrieval(
    beir: Path = typer.Option(..., "--beir", help="A BEIR folder: queries.jsonl and qrels/SPLIT.tsv."),
    store: str = typer.Option(..., "--store", help="The datastore of that collection: a folder, or grpc://host:port."),
    split: str = typer.Option("test", "--split", help="Which judgments."),
    mode: ModeOption = typer.Option(ModeOption.HYBRID, "--mode", help="Which side finds passages."),
    k: int = typer.Option(DEPTH, "-k", help="Passages retrieved for a query."),
    candidate_depth: int | None = typer.Option(None, "--candidate-depth", help="ANN candidates reranked exactly."),
    nprobe: int | None = typer.Option(None, "--nprobe", help="Lists of an IVF index that are read."),
    fusion: FusionOption = typer.Option(FusionOption.RRF, "--fusion", help="How hybrid combines both sides."),
    dense_weight: float = typer.Option(0.5, "--dense-weight", help="Weight of dense in a convex fusion, 0 to 1."),
    bm25_k1: float | None = typer.Option(None, "--bm25-k1", help="BM25's k1 (default: the datastore's)."),
    bm25_b: float | None = typer.Option(None, "--bm25-b", help="BM25's b (default: the datastore's)."),
    encoder: str | None = typer.Option(None, "--encoder", help="Where to load the datastore's encoder from."),
    run_file: Path | None = typer.Option(None, "--run", help="Write the results as a TREC run."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Measure retrieval on a judged collection; a document counts by its best passage."""
    request = SearchRequest(
        k=k,
        mode=mode.value,
        candidate_depth=candidate_depth,
        nprobe=nprobe,
        fusion=Fusion(fusion.value, dense_weight=dense_weight),
        bm25_k1=bm25_k1,
        bm25_b=bm25_b,
        require_complete=True,
    )
    judged = read_judged(beir, split)
    with closing(open_target(store, encoder)) as retriever, progress_bar() as progress:
        task = progress.add_task("queries", total=len(judged.queries))
        run = retrieve(retriever, judged.queries, request, lambda done: progress.update(task, completed=done))
    measures = measure(judged, run)
    if run_file is not None:
        write_run(run_file, run, f"pergamon-{mode.value}")
    if as_json:
        print_json(measures)
        return
    typer.echo(f"{beir.name} {split}, {mode.value}, {len(judged.queries)} queries")
    table = Table()
    table.add_column("measure")
    table.add_column("value", justify="right")
    for name, value in measures.items():
        table.add_row(name, f"{value:.4f}")
    Console(markup=False).print(table)
