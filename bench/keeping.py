"""What it costs to keep a datastore alive: additions, the searches after them, deletions and compaction.

    python -m bench.keeping --dataset FOLDER --input FILE --work FOLDER --out bench/results STAGE...

A datastore of the dataset's vectors (`bench.ann.dataset`) and of the texts of an input is built; one passage in a
hundred is added to it at once, then documents one by one. Searches are timed over what that left and again when it is
compact. Vectors are looked up, not encoded, so that an encoder's time hides nothing: shares of the build's time are at
their highest. Each stage keeps its figures in the work folder, and any of them can be run by itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.ann.dataset import open_dataset
from bench.ann.filtered_store import StoredVectors
from bench.ann.machine import describe_machine
from datastore.build import build
from datastore.config import InputConfig, load_config
from datastore.keeping.addition import Adder, add
from datastore.keeping.compaction import compact
from datastore.keeping.deletion import delete
from datastore.sources.inputs import open_inputs
from datastore.sources.rejects import Rejects
from datastore.store.manifest import read_manifest
from retriever.local_shard import LocalShard
from retriever.shard import Bm25Query, DenseQuery, ShardQuery

STAGES = (
    "build",
    "search-built",
    "add",
    "small",
    "search-small",
    "compact",
    "search-compact",
    "delete",
    "search-deleted",
    "compact-deleted",
    "search-rewritten",
)
WAYS = ("dense", "bm25", "both")
QUERIES = 400
_WARM_UP_S = 5.0
_K = 10
_QUERY_WORDS = 6


class NumberedVectors(StoredVectors):
    """The vector of a text that begins with `row 17` is the dataset's 17th."""

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = [int(text.split(maxsplit=2)[1]) for text in texts]
        return self._base[rows].astype(np.float32)


def texts_of(source: str, rejects: Path) -> Iterator[str]:
    """The input's texts, over and over."""
    while True:
        with Rejects(rejects) as refused:
            for document in open_inputs([source], refused, InputConfig()):
                yield document.text


class Bench:
    """One datastore and what was measured of it."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.work = Path(arguments.work)
        self.work.mkdir(parents=True, exist_ok=True)
        self.store = self.work / "store"
        self.source = str(arguments.input)
        self.small = int(arguments.small)
        self.dataset = open_dataset(Path(arguments.dataset))
        self.encoder = NumberedVectors(self.dataset)
        self.rows = int(arguments.rows or len(self.dataset.base))
        self.figures = self.work / "figures.json"

    def known(self) -> dict[str, Any]:
        """What was measured so far."""
        found: dict[str, Any] = json.loads(self.figures.read_text()) if self.figures.exists() else {}
        return found

    def keep(self, name: str, values: dict[str, Any]) -> None:
        self.figures.write_text(json.dumps(self.known() | {name: values}, indent=1))
        sys.stderr.write(f"{name} {json.dumps(values)}\n")

    def documents(self, path: Path, first: int, count: int) -> str:
        """A file of so many documents, their vectors from row `first` on."""
        texts = islice(texts_of(self.source, self.work / "rejects.jsonl"), first, None)
        whole = path.with_suffix(".tmp")
        with whole.open("w", encoding="utf-8") as lines:
            for row, text in zip(range(first, first + count), texts, strict=False):
                numbered = f"row {row % len(self.dataset.base)} {text}"
                lines.write(json.dumps({"_id": f"d{row}", "text": numbered, "year": row % 50}) + "\n")
        whole.replace(path)
        return str(path)

    def build(self) -> None:
        source = self.work / "documents.jsonl"
        if not source.exists():
            self.documents(source, 0, self.rows - self.rows // 100)
        settings = load_config(None, {"chunk": {"words": 0}, "index": {"kind": "auto", "tune_queries": 100}})
        start, before = time.perf_counter(), self.known().get("build", {}).get("seconds", 0.0)
        try:  # one that was interrupted goes on, and its time counts
            build([str(source)], self.store, settings, encoder=self.encoder)
        finally:
            self.keep("build", {"seconds": round(before + time.perf_counter() - start, 2)})

    def add(self) -> None:
        count = self.rows // 100
        source = self.documents(self.work / "more.jsonl", self.rows - count, count)
        before = read_manifest(self.store)
        figures = self._timed(lambda: add(self.store, [source], encoder=self.encoder))
        self.keep("add", figures | {"documents": read_manifest(self.store).documents - before.documents})

    def add_small(self) -> None:
        """One document at a time; a run that is interrupted is gone on with."""
        source = self.work / "one.jsonl"
        known = self.known().get("small", {"taken_s": [], "merged": 0, "segments_most": 0})
        taken, merged, most = known["taken_s"], known["merged"], known["segments_most"]
        texts = islice(texts_of(self.source, self.work / "rejects.jsonl"), len(taken), None)
        try:
            with Adder(self.store, encoder=self.encoder) as adder:
                for number, text in zip(range(len(taken), self.small), texts, strict=False):
                    source.write_text(json.dumps({"_id": f"small{number}", "text": f"row {number} {text}"}) + "\n")
                    start = time.perf_counter()
                    done = adder.add([str(source)])
                    taken.append(round(time.perf_counter() - start, 4))
                    merged += done.merged_segments
                    most = max(most, len(done.manifest.segments))
        finally:
            found = {"segments_most": most, "merged": merged} | self._segments() | {"taken_s": taken}
            self.keep("small", _spread(taken) | {"additions": len(taken), "total_s": round(sum(taken), 1)} | found)

    def search(self, name: str) -> None:
        shard = LocalShard(self.store)
        texts = islice(texts_of(self.source, self.work / "rejects.jsonl"), 5, None, 97)
        words = [" ".join(text.split()[:_QUERY_WORDS]) for text, _ in zip(texts, range(QUERIES), strict=False)]
        vectors = self.dataset.queries[:QUERIES]
        ways: dict[str, Callable[[int], ShardQuery]] = {
            "dense": lambda i: ShardQuery(_K, DenseQuery(vectors[i])),
            "bm25": lambda i: ShardQuery(_K, bm25=Bm25Query(words[i])),
            "both": lambda i: ShardQuery(_K, DenseQuery(vectors[i]), Bm25Query(words[i]), passages=_K),
        }
        shard.warm_up(_WARM_UP_S)
        figures: dict[str, Any] = {}
        for way, query in ways.items():
            for warm in range(QUERIES):
                shard.search(query(warm))
            taken = []
            for number in range(QUERIES):
                start = time.perf_counter()
                shard.search(query(number))
                taken.append(time.perf_counter() - start)
            figures[way] = _spread(taken)
        shard.close()
        self.keep(name, figures | self._segments())

    def delete(self) -> None:
        self.keep("delete", self._timed(lambda: delete(self.store, where="year = 7")) | self._segments())

    def compact(self, name: str) -> None:
        self.keep(name, self._timed(lambda: compact(self.store)) | self._segments())

    def _segments(self) -> dict[str, int]:
        manifest = read_manifest(self.store)
        return {"segments": len(manifest.segments), "passages": manifest.passages, "generation": manifest.generation}

    @staticmethod
    def _timed(work: Callable[[], object]) -> dict[str, Any]:
        start = time.perf_counter()
        work()
        return {"seconds": round(time.perf_counter() - start, 2)}


def _spread(seconds: Sequence[float]) -> dict[str, Any]:
    p50, p99 = np.percentile(seconds, [50, 99])
    return {"p50_ms": round(1e3 * float(p50), 3), "p99_ms": round(1e3 * float(p99), 3)}


def report(figures: dict[str, Any], machine: dict[str, Any], rows: int) -> str:
    """The page in Markdown."""
    lines = [
        f"# Keeping a datastore of {rows:,} passages",
        "",
        "Made by `python -m bench.keeping`. Vectors are looked up, not encoded: shares of the build's time are at "
        "their highest.",
        "",
        f"- machine: {machine['cpu']}, {machine['logical_cpus']} logical processors, {machine['memory_gib']} GiB",
        "",
        "| step | seconds | share of the build | |",
        "| --- | ---: | ---: | --- |",
    ]
    whole = figures["build"]["seconds"]
    for name in ("build", "add", "compact", "delete", "compact-deleted"):
        if name in figures:
            seconds = figures[name]["seconds"]
            rest = {key: value for key, value in figures[name].items() if key != "seconds"}
            lines.append(f"| {name} | {seconds:,} | {seconds / whole:.1%} | {_plain(rest)} |")
    if "small" in figures:
        lines += ["", f"One document at a time: {_plain(figures['small'])}."]
    lines.append("")
    lines += ["| searches, ms (p50 / p99) | dense | BM25 | both |", "| --- | ---: | ---: | ---: |"]
    for name in (name for name in STAGES if name.startswith("search") and name in figures):
        spread = [f"{figures[name][way]['p50_ms']} / {figures[name][way]['p99_ms']}" for way in WAYS]
        what = f"{name.removeprefix('search-')}, {figures[name]['segments']} segments"
        lines.append(f"| {what} | {' | '.join(spread)} |")
    if "search-small" in figures and "search-compact" in figures:
        ratios = [
            f"{way} {figures['search-small'][way]['p50_ms'] / figures['search-compact'][way]['p50_ms']:.2f}"
            for way in WAYS
        ]
        lines += ["", f"p50 after the small additions, as a multiple of the compacted store's: {', '.join(ratios)}."]
    return "\n".join(lines) + "\n"


def _plain(values: dict[str, Any]) -> str:
    shown = ((key.replace("_", " "), value) for key, value in values.items() if not isinstance(value, list))
    return ", ".join(f"{name} {value:,}" for name, value in shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True, help="a folder that bench.ann.dataset made")
    parser.add_argument("--input", required=True, help="texts, as for pergamon build")
    parser.add_argument("--work", required=True)
    parser.add_argument("--out", default="bench/results")
    parser.add_argument("--rows", type=int, default=None)
    parser.add_argument("--small", type=int, default=1000)
    parser.add_argument("stages", nargs="*", default=STAGES, help=f"of {', '.join(STAGES)} and report")
    arguments = parser.parse_args()
    bench = Bench(arguments)
    for stage in arguments.stages:
        if stage.startswith("search"):
            bench.search(stage)
        elif stage.startswith("compact"):
            bench.compact(stage)
        elif stage != "report":
            {"build": bench.build, "add": bench.add, "small": bench.add_small, "delete": bench.delete}[stage]()
    page = report(json.loads(bench.figures.read_text()), describe_machine(), bench.rows)
    Path(arguments.out).mkdir(parents=True, exist_ok=True)
    Path(arguments.out, "keeping.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
