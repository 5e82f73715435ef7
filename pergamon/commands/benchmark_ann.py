"""`pergamon bench ann`."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from bench.ann.dataset import Dataset, DatasetPlan, embed_inputs, open_dataset, take_arrays
from bench.ann.measure import Point, Setup
from bench.ann.peers.registry import ENGINES
from bench.ann.report import render_markdown
from bench.ann.results import Results
from bench.ann.run import Output, compare, render
from datastore.config import EncoderConfig
from datastore.errors import InvalidArgument
from pergamon.output import ERRORS, print_json, progress_bar, to_plain

EXAMPLES = """
**Examples**

`bench/ann/make_peers_env.sh peers`

`pergamon bench ann --input corpora/ --encoder wordllama-256 --out results --peers-python peers/bin/python`

`pergamon bench ann --vectors base.npy --queries queries.npy --engines pergamon,compactds --cold --out results`
"""


def ann(
    out: Path = typer.Option(..., "--out", help="Folder of the results: ann-LABEL.json, .md and .png."),
    label: str = typer.Option("vectors", "--label", help="In the names of the result files."),
    vectors: Path | None = typer.Option(None, "--vectors", help="Base vectors: .npy of floats, [n, dimension]."),
    queries: Path | None = typer.Option(None, "--queries", help="Query vectors: .npy of floats."),
    inputs: list[str] = typer.Option([], "--input", help="Or text to embed: what pergamon build takes; repeatable."),
    encoder: str = typer.Option("wordllama-256", "--encoder", help="Encoder of --input."),
    passage_words: str = typer.Option(
        "256",
        "--chunk-words",
        help="Words of a passage of --input, 0 for whole documents; several (5,50) cut each text several times.",
    ),
    dataset: Path | None = typer.Option(None, "--dataset", help="Or a dataset that an earlier run left in its --work."),
    limit: int | None = typer.Option(None, "--limit", help="Base vectors at most.", min=1),
    held_out: int = typer.Option(10_000, "--held-out", help="Passages of --input that become queries.", min=1),
    judged: int = typer.Option(
        2_000, "--judged", help="Queries whose exact neighbours are found and asked for.", min=1
    ),
    seed: int = typer.Option(0, "--seed", help="Of the shuffle."),
    engines: str = typer.Option(",".join(ENGINES), "--engines", help="Names, with commas between them."),
    peers_python: Path | None = typer.Option(
        None, "--peers-python", help="Python of the peers' environment (bench/ann/make_peers_env.sh)."
    ),
    work: Path | None = typer.Option(None, "--work", help="Datasets and indexes (default: OUT/work); kept for reruns."),
    cores: str = typer.Option("0,1", "--cores", help="Logical processors that each engine is pinned to."),
    budget_s: float = typer.Option(8.0, "--budget", help="Seconds for the single queries of a point.", min=0.1),
    cold: bool = typer.Option(False, "--cold", help="Measure also with the page cache of the index dropped."),
    memory_cgroup: Path | None = typer.Option(
        None, "--memory-cgroup", help="A memory cgroup with a limit set, which each engine's process joins."
    ),
    render_only: bool = typer.Option(False, "--render-only", help="Make the table and plots anew from the results."),
    as_json: bool = typer.Option(False, "--json", help="Print the results as one JSON object."),
) -> None:
    """Compare engines of approximate nearest neighbours: recall, latency, throughput, memory, disk and build."""
    output = Output(out, label)
    if render_only:
        render(output)
        return
    names, processors = _names(engines), parse_numbers(cores, "cores")
    folder = work or out / "work"
    folder.mkdir(parents=True, exist_ok=True)
    plan = DatasetPlan(limit, held_out, judged, parse_numbers(passage_words, "chunk-words"), seed)
    setup = Setup(
        dataset=_dataset(dataset, vectors, queries, inputs, EncoderConfig(encoder), plan, folder / "dataset"),
        work=folder,
        peers_python=peers_python,
        cores=processors,
        memory_cgroup=memory_cgroup,
        single_budget_s=budget_s,
        batch_budget_s=budget_s,
        cold=cold,
    )
    results = compare(setup, names, output, _command(), note_point)
    _print(results, as_json)


def _print(results: Results, as_json: bool) -> None:
    if as_json:
        print_json(to_plain(results))
    else:
        typer.echo(render_markdown(results))


def note_point(engine: str, point: Point) -> None:
    state = "cold" if point.cold else "warm"
    ERRORS.print(
        f"{engine} {state} {point.params}: recall {point.recall:.4f}, p50 {point.p50_ms:.2f} ms, "
        f"p99 {point.p99_ms:.2f} ms, {point.queries_per_second:,.0f} queries/s",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _dataset(
    made: Path | None,
    vectors: Path | None,
    queries: Path | None,
    inputs: list[str],
    encoder: EncoderConfig,
    plan: DatasetPlan,
    folder: Path,
) -> Dataset:
    given = [made is not None, vectors is not None or queries is not None, bool(inputs)]
    if sum(given) != 1 or (vectors is None) != (queries is None):
        raise InvalidArgument(
            "vectors were given in no way, or in several",
            mend="pass --vectors with --queries, or --input, or --dataset",
            field="vectors",
        )
    if made is not None:
        return open_dataset(made)
    if vectors is not None and queries is not None:
        return take_arrays(vectors, queries, plan, folder)
    with progress_bar() as progress:
        task = progress.add_task("passages embedded", total=None)
        return embed_inputs(inputs, encoder, plan, folder, lambda done: progress.update(task, completed=done))


def _names(engines: str) -> list[str]:
    names = [name.strip() for name in engines.split(",") if name.strip()]
    unknown = [name for name in names if name not in ENGINES]
    if unknown or not names:
        raise InvalidArgument(
            f"--engines has {', '.join(unknown) or 'no name'}; there are {', '.join(ENGINES)}",
            mend="name some of those, with commas between them",
            field="engines",
        )
    return names


def parse_numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InvalidArgument(
            f"--{option} is {text!r}", mend="write numbers with commas, as 0,1", field=option.replace("-", "_")
        ) from None


def _command() -> str:
    return " ".join(["pergamon", *sys.argv[1:]])
