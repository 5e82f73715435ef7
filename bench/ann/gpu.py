"""The index on GPUs against the index on the CPU: times, bytes, candidates and recall, on one set of vectors.

`python -m bench.ann.gpu --dataset DIR --device cuda --work DIR` builds each kind of index on both, searches the same
store with both, and writes `gpu-LABEL.json` and `gpu-LABEL.md`. With `--device cpu` both are the CPU: that measures
nothing, and shows that the way is whole.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from bench.ann.dataset import Dataset, open_dataset
from bench.ann.gpu_report import render
from bench.ann.machine import describe_machine
from bench.ann.truth import recall
from datastore.ann.gpu_plan import search_plan
from datastore.ann.index import AnnIndex, candidates, check_device, load_template, train_template
from datastore.ann.kinds.gpu import find_gpus, free_bytes
from datastore.ann.spec import IndexSpec, choose_index
from datastore.config import IndexConfig
from datastore.devices import CPU, DeviceChoice, parse_device
from datastore.errors import PergamonError
from datastore.store.exact import ExactVectors
from datastore.store.vectors import VectorFile, VectorWriter

KINDS = {
    "flat": IndexConfig(kind="flat"),
    "ivf-pq": IndexConfig(kind="ivf-pq"),
    "ivf-pq4": IndexConfig(kind="ivf-pq4"),
}
_NEIGHBOURS = 10
_BLOCK = 16_384
_TOGETHER = 1024
"""Queries of a batch that are searched for at once."""
_ALONE = 500
"""Queries searched for one at a time."""


@dataclass(frozen=True, slots=True)
class Side:
    """What one device took, in seconds."""

    device: str
    train_s: float
    add_s: float


@dataclass(frozen=True, slots=True)
class Point:
    """A search with one setting; milliseconds of one query alone, queries a second of a batch."""

    device: str
    template: str
    """The device that trained it."""
    nprobe: int
    depth: int
    recall: float
    p50_ms: float
    p99_ms: float
    batch_qps: float
    index_qps: float
    """Of a batch, without the exact rerank."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """One store, searched on both."""

    same_bytes: bool
    """Codes that both wrote with the template of the CPU."""
    same_entries: float
    """Share of bytes of these files that are equal, at their places."""
    same_candidates: float
    """Mean share of the CPU's candidates that the device finds."""
    score_difference: float
    """Largest, of the approximate scores of a candidate that both found."""


@dataclass(frozen=True, slots=True)
class KindResult:
    kind: str
    index: str
    sides: list[Side]
    agreement: Agreement
    points: list[Point]
    planned: str
    """What the index takes on a GPU, as `pergamon info` says."""
    taken_bytes: int | None
    """What opening it took of all devices together; None without any."""


def measure_kind(data: Dataset, kind: str, device: DeviceChoice, work: Path, say: Callable[[str], None]) -> KindResult:
    """Build and search one kind of index on the CPU and on `device`."""
    spec = choose_index(KINDS[kind], len(data.base), data.base.shape[1])
    vectors = _vector_file(data.base, work / "vectors.f16")
    chosen = np.random.default_rng(spec.seed).choice(len(data.base), spec.train_vectors, replace=False)
    sample = data.base[np.sort(chosen)].astype(np.float32)
    sides, templates, codes = [], {}, {}
    for name, where in (("cpu", CPU), ("device", device)):
        say(f"{kind}: building on {where}")
        train_s, template = _timed(lambda where=where: train_template(spec, sample, where))  # type: ignore[misc]
        path = work / f"{name}.template"
        templates[name] = path if template.save(path) else None
        codes[name] = work / f"{name}.codes"
        add_s, _ = _timed(lambda t=template, n=name: t.write_segment(vectors.blocks(_BLOCK), codes[n]))  # type: ignore[misc]
        sides.append(Side(str(where), train_s, add_s))
    # The CPU's template, on the device: what is written with it should be the same bytes.
    again = load_template(spec, templates["cpu"], device).write_segment(vectors.blocks(_BLOCK), work / "again.codes")
    same = _same_bytes(codes["cpu"], work / "again.codes") if again else 1.0

    del template  # and with it what it has on devices
    points, opened, taken = [], {}, None
    for where, trained in ((CPU, "cpu"), (device, "cpu"), (device, "device")):
        say(f"{kind}: searching on {where}")
        before = _free(where)
        index = load_template(spec, templates[trained], where).open([codes[trained]], [vectors])
        taken = before - _free(where) if where != CPU and taken is None else taken
        opened[str(where) + trained] = index
        for nprobe, depth in _settings(spec):
            label = "cpu" if trained == "cpu" else str(device)
            points.append(_point(index, vectors, data, (nprobe, depth), (str(where), label)))
    candidates_share, difference = _compare(opened["cpucpu"], opened[str(device) + "cpu"], data.queries, spec)
    vectors.close()
    plan = search_plan(spec, len(data.base), max(1, len(device.numbers)))
    return KindResult(
        kind,
        spec.describe(),
        sides,
        Agreement(same == 1.0, same, candidates_share, difference),
        points,
        plan if isinstance(plan, str) else plan.describe(),
        taken,
    )


def _settings(spec: IndexSpec) -> list[tuple[int, int]]:
    """(lists, candidates reranked)."""
    if spec.nlist == 0:
        return [(0, 32)]
    return [(min(spec.nlist, nprobe), depth) for nprobe, depth in ((16, 40), (64, 100), (256, 200))]


def _free(device: DeviceChoice) -> int:
    """Bytes of all its GPUs together."""
    return sum(map(free_bytes, find_gpus(device)))


def _point(
    index: AnnIndex, vectors: VectorFile, data: Dataset, setting: tuple[int, int], names: tuple[str, str]
) -> Point:
    nprobe, depth = setting
    exact = ExactVectors([vectors], vectors.dimension)

    def found(queries: NDArray[np.float32]) -> list[NDArray[np.int64]]:
        return candidates(index, queries, depth, nprobe)

    def search(queries: NDArray[np.float32]) -> NDArray[np.float32]:
        scores = np.full((len(queries), _NEIGHBOURS), -np.inf, np.float32)
        for own, mine in zip(scores, exact.scores(queries, found(queries)), strict=True):
            best = np.sort(mine)[::-1][:_NEIGHBOURS]
            own[: len(best)] = best
        return scores

    judged = data.queries[: len(data.truth_ids)]
    recalled = recall(np.concatenate(list(map(search, _blocks(judged)))), data.truth_scores, _NEIGHBOURS)
    alone = np.array([_timed(lambda q=query: search(q[None]))[0] for query in data.queries[:_ALONE]])  # type: ignore[misc]
    blocks = _blocks(data.queries)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        whole_s, _ = _timed(lambda: list(pool.map(search, blocks)))
        index_s, _ = _timed(lambda: list(pool.map(found, blocks)))
    return Point(
        names[0],
        names[1],
        nprobe,
        depth,
        recalled,
        1e3 * float(np.percentile(alone, 50)),
        1e3 * float(np.percentile(alone, 99)),
        len(data.queries) / whole_s,
        len(data.queries) / index_s,
    )


def _compare(
    on_cpu: AnnIndex, on_device: AnnIndex, queries: NDArray[np.float32], spec: IndexSpec
) -> tuple[float, float]:
    """(mean share of candidates in common, largest difference of a common one's approximate scores)."""
    shares, differences = [], []
    for block in _blocks(queries[: 2 * _TOGETHER]):
        nprobe, depth = _settings(spec)[-1]
        both = [index.search(block, depth, nprobe, None) for index in (on_cpu, on_device)]
        for number in range(len(block)):
            scores = [
                {row: s for s, row in sorted(zip(s[number], r[number], strict=True)) if row >= 0} for s, r in both
            ]
            common = scores[0].keys() & scores[1].keys()
            shares.append(len(common) / max(1, len(scores[0])))
            differences += [abs(float(scores[0][row] - scores[1][row])) for row in common]
    return float(np.mean(shares)), max(differences, default=0.0)


def _same_bytes(one: Path, other: Path) -> float:
    first, second = np.fromfile(one, np.uint8), np.fromfile(other, np.uint8)
    return float((first == second).mean()) if len(first) == len(second) else 0.0


def _vector_file(base: NDArray[np.float16], path: Path) -> VectorFile:
    writer = VectorWriter(path, base.shape[1])
    for start in range(0, len(base), _BLOCK):
        writer.add(base[start : start + _BLOCK].astype(np.float32))
    writer.close()
    return VectorFile(path, *base.shape)


def _blocks(queries: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
    return [queries[start : start + _TOGETHER] for start in range(0, len(queries), _TOGETHER)]


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def _versions() -> dict[str, str]:
    found = {}
    for package in ("pergamon", "faiss-cpu", "faiss-gpu", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def main(
    *,
    dataset: Annotated[Path, typer.Option(help="A dataset of `pergamon bench ann`.")],
    work: Annotated[Path, typer.Option(help="A folder for what is built; it is emptied.")],
    device: Annotated[str, typer.Option(help="What to compare with the CPU: cuda, cuda:0,1, or cpu for a trial.")],
    kind: Annotated[list[str], typer.Option(help="Kinds of index.")] = list(KINDS),  # noqa: B006 - typer only reads it
    out: Annotated[Path, typer.Option(help="Where the results go.")] = Path("bench/results"),
    label: Annotated[str, typer.Option(help="Results are called gpu-LABEL.")] = "1m",
) -> None:
    try:
        chosen = parse_device(device)
        check_device(chosen)
        data = open_dataset(dataset)
        results = []
        for name in kind:
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            results.append(measure_kind(data, name, chosen, work, lambda line: typer.echo(line, err=True)))
            record = {
                "device": str(chosen),
                "machine": describe_machine(),
                "versions": _versions(),
                "dataset": data.about,
                "kinds": [asdict(result) for result in results],
            }
            out.mkdir(parents=True, exist_ok=True)
            (out / f"gpu-{label}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            (out / f"gpu-{label}.md").write_text(render(record), encoding="utf-8")
    except PergamonError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(render(record))


if __name__ == "__main__":
    typer.run(main)
