"""`pergamon bench filtered`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import typer

from bench.ann.dataset import open_dataset
from bench.ann.filtered import Asked, FilteredBench
from bench.ann.filtered_report import render_filtered
from bench.ann.filtered_results import FilteredResults, measure_filtered
from bench.ann.filtered_store import make_store
from bench.ann.machine import describe_machine
from datastore.errors import InvalidArgument
from pergamon.output import ERRORS, print_json, progress_bar, to_plain

EXAMPLES = """
**Examples**

`pergamon bench filtered --dataset results/work/dataset --out results --label 1m`

`pergamon bench filtered --dataset results/work/dataset --out results --queries 200 --grouped 256,4096 --json`
"""


def filtered(
    dataset: Path = typer.Option(..., "--dataset", help="A dataset that pergamon bench ann left in its --work."),
    out: Path = typer.Option(..., "--out", help="Folder of the results: filtered-LABEL.json and .md."),
    label: str = typer.Option("vectors", "--label", help="In the names of the result files."),
    work: Path | None = typer.Option(
        None, "--work", help="Of the store (default: OUT/work/filtered); kept for reruns."
    ),
    queries: int = typer.Option(500, "--queries", help="Queries of each filter.", min=1),
    grouped: str = typer.Option("256,1024,4096", "--grouped", help="Sizes of batches over 16 filters, with commas."),
    k: int = typer.Option(10, "-k", help="Passages wanted.", min=1),
    nprobe: int | None = typer.Option(None, "--nprobe", help="Lists that an unfiltered search reads.", min=1),
    depth: int | None = typer.Option(None, "--candidate-depth", help="Candidates scored exactly.", min=1),
    index: str = typer.Option("ivf-pq4", "--index", help="Kind of the index; auto goes by the size."),
    seed: int = typer.Option(0, "--seed", help="Of the attributes."),
    as_json: bool = typer.Option(False, "--json", help="Print the results as one JSON object."),
) -> None:
    """Measure filtered search: recall against exact, latency beside no filter, and what grouping by filter gives.

    Filters leave 50%, 10%, 1% and 0.1% of the passages, spread evenly or as one region of the space.
    """
    sizes = _sizes(grouped)
    data = open_dataset(dataset)
    store = (work or out / "work" / "filtered") / "store"
    with progress_bar() as progress:
        task = progress.add_task("store", total=2 * len(data.base))
        make_store(data, store, seed, index, lambda done: progress.update(
            task, completed=done.passages + (len(data.base) if done.stage != "passages" else 0)
        ))  # fmt: skip
    command = " ".join(["pergamon", *sys.argv[1:]])
    created = datetime.now(UTC).isoformat(timespec="seconds")
    bench = FilteredBench(data, store, Asked(k, nprobe, depth), queries)
    try:
        blank = FilteredResults(command, created, describe_machine(), data.about, bench.index, bench.asked)
        results = measure_filtered(bench, sizes, _note, blank)
    finally:
        bench.close()
    out.mkdir(parents=True, exist_ok=True)
    (out / f"filtered-{label}.json").write_text(json.dumps(asdict(results), indent=1) + "\n", encoding="utf-8")
    text = render_filtered(results)
    (out / f"filtered-{label}.md").write_text(text, encoding="utf-8")
    if as_json:
        print_json(to_plain(results))
    else:
        typer.echo(text)


def _note(line: str) -> None:
    ERRORS.print(line, markup=False, highlight=False, soft_wrap=True)


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = [0]
    if min(sizes) < 1:
        raise InvalidArgument(
            f"--grouped is {text!r}; wanted positive numbers",
            mend="write them with commas, as 256,4096",
            field="grouped",
        )
    return sizes
