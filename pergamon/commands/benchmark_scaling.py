"""`pergamon bench ann-scaling`."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from bench.ann.dataset import open_dataset
from bench.ann.measure import Setup
from bench.ann.plot import plot_scaling
from bench.ann.scaling import measure_scaling, read_scaling, write_scaling
from bench.ann.scaling_report import render_scaling
from datastore.config import IndexChoice
from datastore.errors import InvalidArgument
from pergamon.commands.benchmark_ann import note_point, parse_numbers
from pergamon.output import print_json, to_plain

EXAMPLES = """
**Example**

`pergamon bench ann-scaling --dataset build/set --sizes 1M,2.5M,5M,10M --out results`
"""

_UNITS = {"k": 1e3, "M": 1e6, "G": 1e9}


def ann_scaling(
    out: Path = typer.Option(..., "--out", help="Folder of the results: ann-scaling.json, .md and .png."),
    dataset: Path = typer.Option(..., "--dataset", help="A dataset that pergamon bench ann left in its --work."),
    sizes: str = typer.Option("1M,2.5M,5M,10M", "--sizes", help="Numbers of its first vectors, with commas."),
    kind: IndexChoice = typer.Option("auto", "--index", help="Kind of index."),
    work: Path | None = typer.Option(None, "--work", help="Datasets and indexes (default: OUT/work); kept for reruns."),
    cores: str = typer.Option("0,1", "--cores", help="Logical processors that the engine is pinned to."),
    budget_s: float = typer.Option(4.0, "--budget", help="Seconds for the single queries of a point.", min=0.1),
    memory_cgroup: Path | None = typer.Option(
        None, "--memory-cgroup", help="A memory cgroup with a limit set, which the engine's process joins."
    ),
    render_only: bool = typer.Option(False, "--render-only", help="Make the table and plot anew from the results."),
    as_json: bool = typer.Option(False, "--json", help="Print the results as one JSON object."),
) -> None:
    """Measure how the cost of our index grows with the number of vectors: build, memory, opening and search."""
    path = out / "ann-scaling.json"
    if not render_only:
        folder = work or out / "work"
        folder.mkdir(parents=True, exist_ok=True)
        setup = Setup(
            dataset=open_dataset(dataset),
            work=folder,
            cores=parse_numbers(cores, "cores"),
            memory_cgroup=memory_cgroup,
            single_budget_s=budget_s,
            batch_budget_s=budget_s,
        )
        command = " ".join(["pergamon", *sys.argv[1:]])
        write_scaling(measure_scaling(setup, _sizes(sizes), kind, command, note_point), path)
    scaling = read_scaling(path)
    plot_scaling(scaling, out / "ann-scaling.png")
    report = render_scaling(scaling, "ann-scaling.png")
    (out / "ann-scaling.md").write_text(report, encoding="utf-8")
    if as_json:
        print_json(to_plain(scaling))
    else:
        typer.echo(report)


def _sizes(text: str) -> list[int]:
    """'2.5M' -> 2500000."""
    sizes = []
    for part in text.split(","):
        number, unit = (part[:-1], _UNITS[part[-1]]) if part[-1:] in _UNITS else (part, 1.0)
        try:
            sizes.append(int(float(number) * unit))
        except (ValueError, OverflowError):
            raise InvalidArgument(
                f"--sizes has {part!r}", mend="write numbers with commas, as 1M,2.5M,10M", field="sizes"
            ) from None
    return sizes
