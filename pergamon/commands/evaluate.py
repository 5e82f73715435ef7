"""`pergamon eval`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.beir import read_judged
from bench.retrieval import DEPTH, measure, retrieve, write_run
from datastore.devices import parse_device
from pergamon import options
from pergamon.options import FusionOption, ModeOption
from pergamon.output import print_json, progress_bar
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
    beir: Annotated[Path, typer.Option("--beir", help="A BEIR folder: queries.jsonl and qrels/SPLIT.tsv.")],
    store: Annotated[
        str, typer.Option("--store", help="The datastore of that collection: a folder, or grpc://host:port.")
    ],
    split: Annotated[str, typer.Option("--split", help="Which judgments.")] = "test",
    k: Annotated[int, typer.Option("-k", help="Passages retrieved for a query.")] = DEPTH,
    mode: options.Mode = ModeOption.HYBRID,
    candidate_depth: options.CandidateDepth = None,
    nprobe: options.Nprobe = None,
    recall: options.Recall = None,
    fusion: options.FusionMethod = FusionOption.RRF,
    dense_weight: options.DenseWeight = 0.5,
    bm25_k1: options.Bm25K1 = None,
    bm25_b: options.Bm25B = None,
    mmr_lambda: options.MmrLambda = None,
    collapse_similarity: options.CollapseSimilarity = None,
    where: options.Where = None,
    encoder: options.Encoder = None,
    device: options.Device = "auto",
    run_file: Annotated[Path | None, typer.Option("--run", help="Write the results as a TREC run.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure retrieval on a judged collection; a document counts by its best passage."""
    request = options.search_request(
        k=k,
        mode=mode,
        candidate_depth=candidate_depth,
        nprobe=nprobe,
        recall=recall,
        fusion=fusion,
        dense_weight=dense_weight,
        bm25_k1=bm25_k1,
        bm25_b=bm25_b,
        mmr_lambda=mmr_lambda,
        collapse_similarity=collapse_similarity,
        where=where,
        require_complete=True,
    )
    judged = read_judged(beir, split)
    with closing(open_target(store, encoder, parse_device(device))) as retriever, progress_bar() as progress:
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
