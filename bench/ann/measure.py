"""Building and measuring one engine: time, memory and disk as they are, recall from the ids alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.ann.dataset import Dataset
from bench.ann.peers.registry import ENGINES, OWN
from bench.ann.process import EngineProcess
from bench.ann.truth import drop_repeats, exact_scores, recall
from datastore.errors import InvalidArgument

_BUILT = "built.json"
_COMMAND_S = 3600.0
_WARM_UP_QUERIES = 256
_LEAST_QUERIES = 64


@dataclass(frozen=True, slots=True)
class Setup:
    """What all engines of a run have in common."""

    dataset: Dataset
    work: Path
    """Indexes, a folder for each engine, and what goes between the processes."""
    peers_python: Path | None = None
    """Interpreter of the peers' environment; None looks for them in this one."""
    cores: tuple[int, ...] = (0, 1)
    memory_cgroup: Path | None = None
    k: int = 10
    deep_k: int = 100
    single_budget_s: float = 8.0
    batch_budget_s: float = 8.0
    cold: bool = False

    def process(self, engine: str) -> EngineProcess:
        return EngineProcess(engine, None if engine in OWN else self.peers_python, self.cores, self.memory_cgroup)


@dataclass(frozen=True, slots=True)
class Build:
    """Seconds and bytes of an index, and what it was built with."""

    params: dict[str, Any]
    seconds: float
    disk_bytes: int
    versions: dict[str, str]
    others_share: float
    """As of a point, while it was built."""
    peak_bytes: int = 0
    """Anonymous memory at most; 0 where an earlier version built it."""


@dataclass(frozen=True, slots=True)
class Point:
    """One engine at one setting of its query parameters, warm or cold."""

    params: dict[str, Any]
    cold: bool
    recall: float
    """At k, of the warm batch."""
    recall_deep: float | None
    """At deep_k, of a batch that asks for so many; warm alone."""
    p50_ms: float
    p99_ms: float
    single_queries: int
    queries_per_second: float
    batch_queries: int
    anonymous_bytes: int
    """Resident and not of a file, at most; interpreter and libraries included."""
    file_bytes: int
    others_share: float
    """Of the time of the pinned processors, what other processes took: above a few hundredths, measure again."""


@dataclass(frozen=True, slots=True)
class EngineResult:
    engine: str
    build: Build
    open_seconds: float
    idle_bytes: int
    """Anonymous memory of the process before the index was opened."""
    points: list[Point] = field(default_factory=list)
    open_bytes: int = 0
    """Anonymous memory once it was open, before any search."""
    open_peak_bytes: int = 0
    """Anonymous memory at most while it was opened."""


def build_engine(setup: Setup, engine: str, params: dict[str, Any] | None = None) -> Build:
    """Build an engine's index, or take the one that an earlier run left with the same data and parameters.

    Raises:
        InvalidArgument: no engine has that name.
        FailedPrecondition: its package is missing, or it failed.
    """
    if engine not in ENGINES:
        raise InvalidArgument(
            f"no engine is called {engine!r}; there are {', '.join(ENGINES)}", mend="use those", field="engines"
        )
    rows, dimension = setup.dataset.base.shape
    resolved = {**ENGINES[engine]().build_params(rows, dimension), **(params or {})}
    folder = setup.work / engine
    made_of = {"params": resolved, "dataset": setup.dataset.about}
    built = folder / _BUILT
    if built.exists():
        kept = json.loads(built.read_text(encoding="utf-8"))
        if kept["made_of"] == made_of:
            return Build(**kept["build"])
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "index").mkdir(parents=True)
    with setup.process(engine) as process:
        versions = process.ask("versions", _COMMAND_S)["versions"]
        vectors = setup.dataset.folder / "base.npy"
        reply = process.ask(
            "build", _COMMAND_S, vectors=str(vectors.resolve()), folder=str(folder / "index"), params=resolved
        )
    disk = _disk_bytes(folder / "index")
    build = Build(resolved, reply["seconds"], disk, versions, reply["others_share"], reply["peak_bytes"])
    built.write_text(json.dumps({"made_of": made_of, "build": asdict(build)}), encoding="utf-8")
    return build


def measure_engine(
    setup: Setup,
    engine: str,
    build: Build,
    sweep: Sequence[dict[str, Any]] | None = None,
    on_point: Callable[[Point], None] = lambda point: None,
) -> EngineResult:
    """Open a built index and search it at every setting of `sweep`, by default the engine's own."""
    settings = sweep if sweep is not None else ENGINES[engine]().sweep(len(setup.dataset.base))
    with setup.process(engine) as process:
        opened = process.ask("open", _COMMAND_S, folder=str(setup.work / engine / "index"))
        points = []
        for params in settings:
            points.append(_measure_point(setup, process, dict(params)))
            on_point(points[-1])
        # After all the warm ones, which dropped pages would slow down.
        for warm in points[:] if setup.cold else []:
            points.append(_measure_point(setup, process, warm.params, warm))
            on_point(points[-1])
    return EngineResult(
        engine,
        build,
        opened["seconds"],
        opened["anonymous_before"],
        points,
        opened["anonymous_bytes"],
        opened["peak_bytes"],
    )


def _measure_point(setup: Setup, process: EngineProcess, params: dict[str, Any], warm: Point | None = None) -> Point:
    """Warm; or cold, after the warm point at the same parameters, whose recall it has: it is of many more queries."""
    cold = warm is not None
    judged = setup.dataset.queries[: len(setup.dataset.truth_ids)]
    files = {"queries": str(setup.work / "queries.npy"), "ids": str(setup.work / "ids.npy")}

    def ask(command: str, queries: NDArray[np.float32], k: int, **fields: Any) -> tuple[dict[str, Any], Any]:
        np.save(files["queries"], queries)
        reply = process.ask(command, _COMMAND_S, **files, k=k, params=params, **fields)
        return reply, np.load(files["ids"])

    if not cold:
        ask("batch", judged[:_WARM_UP_QUERIES], setup.k, repeats=1, cold=False)
    single, single_ids = ask("single", judged, setup.k, budget_s=setup.single_budget_s, cold=cold)
    p50, p99 = np.percentile(single["milliseconds"], [50, 99])
    # As many as one query after another would take the time given, so that slow engines take their share and no more.
    share = int(setup.batch_budget_s / (float(p50) / 1e3))
    asked = judged[: min(max(share, _LEAST_QUERIES), len(judged))]
    batch, ids = ask("batch", asked, setup.k, repeats=1 if cold else 3, cold=cold)
    deep = None
    peaks = [single, batch]
    if not cold:
        reply, deep_ids = ask("batch", asked, setup.deep_k, repeats=1, cold=False)
        deep = _recall(setup.dataset, deep_ids, setup.deep_k)
        peaks.append(reply)
    found = _recall(setup.dataset, ids, setup.k)
    alone = _recall(setup.dataset, single_ids, setup.k)
    together = _recall(setup.dataset, ids[: len(single_ids)], setup.k)
    if len(single_ids) <= len(ids) and abs(alone - together) > 0.02:
        raise InvalidArgument(
            f"{process.name} finds {alone:.3f} one query at a time and {together:.3f} in a batch, with {params}",
            mend="an adapter must search both ways with the same parameters",
        )
    return Point(
        params=params,
        cold=cold,
        recall=found if warm is None else warm.recall,
        recall_deep=deep,
        p50_ms=float(p50),
        p99_ms=float(p99),
        single_queries=len(single_ids),
        queries_per_second=len(asked) / float(np.median(batch["seconds"])),
        batch_queries=len(asked),
        anonymous_bytes=max(peak["anonymous_bytes"] for peak in peaks),
        file_bytes=max(peak["file_bytes"] for peak in peaks),
        others_share=max(single["others_share"], batch["others_share"]),
    )


def _recall(dataset: Dataset, ids: NDArray[np.int64], k: int) -> float:
    clean = drop_repeats(ids, len(dataset.base))
    scores = exact_scores(dataset.base, dataset.queries[: len(ids)], clean)
    return recall(scores, dataset.truth_scores[: len(ids)], k)


def _disk_bytes(folder: Path) -> int:
    """Blocks that the files occupy, so that holes do not count."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
