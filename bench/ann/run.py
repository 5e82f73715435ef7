"""The whole comparison: build and measure engine after engine, and write what was found after each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.ann.machine import describe_machine
from bench.ann.measure import Point, Setup, build_engine, measure_engine
from bench.ann.plot import plot_results
from bench.ann.report import render_markdown
from bench.ann.results import Results, read_results, write_results
from datastore.errors import DeadlineExceeded, FailedPrecondition, Unavailable


@dataclass(frozen=True, slots=True)
class Output:
    """Where the files go: `FOLDER/ann-LABEL.json`, `.md`, `-warm.png` and `-cold.png`."""

    folder: Path
    label: str

    def path(self, ending: str) -> Path:
        return self.folder / f"ann-{self.label}{ending}"


def compare(
    setup: Setup,
    engines: Sequence[str],
    output: Output,
    command: str,
    on_point: Callable[[str, Point], None] = lambda engine, point: None,
) -> Results:
    """Measure `engines`, one after another. One that fails is named with its reason, and the others go on."""
    path = output.path(".json")
    earlier = read_results(path) if path.exists() else None
    measured, failed = [], {}
    for engine in engines:
        try:
            build = build_engine(setup, engine)
            measured.append(measure_engine(setup, engine, build, on_point=partial(on_point, engine)))
        except (DeadlineExceeded, FailedPrecondition, Unavailable) as error:
            failed[engine] = str(error)
        results = Results(
            command=command,
            machine=describe_machine(),
            dataset=setup.dataset.about,
            cores=list(setup.cores),
            k=setup.k,
            deep_k=setup.deep_k,
            engines=list(measured),
            failed=dict(failed),
        )
        joined = results.joined(earlier) if earlier is not None else results
        write_results(joined, path)
    render(output)
    return read_results(path)


def render(output: Output) -> None:
    """The table and the plots anew from the JSON file."""
    results = read_results(output.path(".json"))
    plots = []
    for cold in (False, True):
        plot = output.path("-cold.png" if cold else "-warm.png")
        if plot_results(results, plot, cold):
            plots.append(plot.name)
    output.path(".md").write_text(render_markdown(results, plots), encoding="utf-8")
