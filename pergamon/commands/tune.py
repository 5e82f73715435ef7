"""`pergamon tune`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.service import read_queries
from datastore.store.manifest import Manifest
from datastore.tune import DEFAULT_KS, MAX_QUERIES, MEASURED_PASSAGES, TuneOptions
from datastore.tune import tune as tune_datastore
from pergamon import options
from pergamon.curve import curve_table
from pergamon.output import ERRORS, print_json, progress_bar, to_plain

EXAMPLES = """
**Examples**

`pergamon tune my.store`

`pergamon tune my.store --queries queries.jsonl --sample 500 --k 10 --k 100`

`pergamon search my.store "queues" --mode dense --recall 0.99`
"""
_STAGES = {"truth": "comparing passages", "sweep": "trying numbers of lists"}


def tune(
    store: Annotated[Path, typer.Argument(help="The folder of a datastore.")],
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries",
            help="JSON Lines with a field text: real queries, which are distributed otherwise than passages and so "
            "tell more (default: vectors of stored passages).",
        ),
    ] = None,
    sample: Annotated[int, typer.Option("--sample", help="Queries measured with, at most.")] = TuneOptions().queries,
    ks: Annotated[
        list[int] | None,
        typer.Option("--k", help="Recall of so many nearest passages; may be given more than once (default 10, 100)."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the sample.")] = 0,
    max_passages: Annotated[
        int,
        typer.Option("--max-passages", help="Of a larger datastore, measure over a sample of segments of so many."),
    ] = MEASURED_PASSAGES,
    encoder: options.Encoder = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure recall against exact search, and keep what it takes with the datastore, for searches with --recall.

    Publishes a new generation of the same segments. Servers take it up when they are started again.
    """
    wanted = TuneOptions(sample, tuple(ks) if ks else DEFAULT_KS, seed, max_passages)
    wanted.validate()
    texts = read_queries(queries, MAX_QUERIES) if queries is not None else None
    started = time.monotonic()
    with progress_bar() as progress:
        task = progress.add_task("opening", total=None)

        def show(stage: str, done: int, total: int) -> None:
            progress.update(task, description=_STAGES[stage], completed=done, total=total)

        manifest = tune_datastore(store, wanted, texts=texts, encoder=encoder, on_progress=show)
    _report(store, manifest, time.monotonic() - started, as_json)


def _report(store: Path, manifest: Manifest, seconds: float, as_json: bool) -> None:
    curve = manifest.operating_curve
    if as_json:
        print_json(
            {
                "store": str(store),
                "generation": manifest.generation,
                "index": manifest.index.describe(),
                "operating_curve": None if curve is None else to_plain(curve),
                "seconds": round(seconds, 3),
            }
        )
    elif curve is None:
        ERRORS.print("nothing to tune: a flat index finds all, whatever recall is asked for", markup=False)
    else:
        Console(markup=False).print(curve_table(curve, manifest.passages))
        ERRORS.print(f"tuned {store}, now generation {manifest.generation}, in {seconds:.1f} s", markup=False)
