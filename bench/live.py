"""A served datastore that changes: what queries see, what they wait, how soon what is new is found.

`python -m bench.live --store STORE --seconds 60 --out FILE` changes the store: give it a copy. A server of its own, or
a router over several, answers searches of some clients, one after another each, in three phases: nothing changes; the
store changes, but the server does not look; it looks. So the third phase less the second is what moving costs, and the
second less the first what a writer on the same cores does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from bench.ann.dataset import Dataset, open_dataset
from bench.service import served
from datastore.encoders.fingerprint import EncoderFingerprint
from datastore.encoders.registry import Encoder
from datastore.keeping.addition import add
from datastore.keeping.deletion import delete
from datastore.store.manifest import read_manifest
from datastore.store.reader import StoreReader
from retriever.api import Mode, Retriever, SearchRequest
from retriever.client import open_target
from retriever.local_shard import LocalShard

_QUERIES = 1000
_WAIT_S = 30.0
_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Plan:
    store: Path
    seconds: float
    """Of each phase."""
    queries: Sequence[str]
    clients: int = 4
    shards: int = 1
    documents: int = 100
    """In each addition."""
    every_s: float = 2.0
    """Between changes."""
    mode: Mode = "dense"
    k: int = 10
    encoder: Encoder | None = None
    """For additions; None for the store's own."""


@dataclass
class Phase:
    """What the clients saw in one phase."""

    name: str
    milliseconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    """Answers with a passage that their generation does not have, or of an older generation than the one before."""
    incomplete: int = 0
    generations: set[int] = field(default_factory=set)
    found_s: list[float] = field(default_factory=list)
    """From the acknowledgement of an addition to the first search that finds it."""
    gone_s: list[float] = field(default_factory=list)
    """From the acknowledgement of a deletion to the first search that does not find it."""


@dataclass
class History:
    """In which generations each document of this run is."""

    added: dict[str, int] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)

    def holds(self, name: str, generation: int) -> bool:
        return self.added.get(name, 0) <= generation < self.deleted.get(name, 1 << 62)


class DrawnVectors:
    """An encoder that gives each text a vector of a dataset, by its hash: with the fingerprint of the dataset's own."""

    def __init__(self, dataset: Dataset, fingerprint: EncoderFingerprint) -> None:
        self._base = dataset.base
        self.fingerprint = fingerprint

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        digests = [hashlib.blake2b(text.encode(), digest_size=6).digest() for text in texts]
        return self._base[[int.from_bytes(digest) % len(self._base) for digest in digests]].astype(np.float32)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.encode_passages(texts)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]


def campaign(plan: Plan, on_phase: Callable[[str], None] = lambda name: None) -> list[Phase]:
    """The three phases, one after another."""
    history, phases = History(), []
    for name, refresh_s, changes in (
        ("nothing changes", 0.5, False),
        ("a writer changes the store", 0.0, True),
        ("and the changes are served", 0.5, True),
    ):
        on_phase(name)
        phases.append(Phase(name))
        with served(plan.store, plan.shards, "--refresh-seconds", str(refresh_s)) as address:
            run_phase(plan, address, history, phases[-1], changes=changes, noticed=refresh_s > 0)
    return phases


def run_phase(
    plan: Plan, address: str, history: History, phase: Phase, *, changes: bool = True, noticed: bool = True
) -> None:
    """Searches of all clients at `address`, until the seconds have passed.

    Args:
        changes: whether the store changes meanwhile.
        noticed: whether the server looks.
    """
    done = threading.Event()
    arguments = (plan, address, (history, phase), done)
    clients = [threading.Thread(target=_ask, args=arguments) for _ in range(plan.clients)]
    for client in clients:
        client.start()
    try:
        with closing(open_target(address)) as probe:
            end = time.monotonic() + plan.seconds
            while (left := end - time.monotonic()) > 0:
                if changes:
                    _change(plan, probe, history, phase, noticed=noticed)
                done.wait(min(plan.every_s, max(0.0, left)))
    finally:
        done.set()
        for client in clients:
            client.join()


def _ask(plan: Plan, address: str, seen: tuple[History, Phase], done: threading.Event) -> None:
    history, phase = seen
    chance, last = np.random.default_rng(), 0
    with closing(open_target(address)) as retriever:
        for query in plan.queries[:20]:
            retriever.search(SearchRequest(query, plan.k, plan.mode))
        while not done.is_set():
            request = SearchRequest(plan.queries[int(chance.integers(len(plan.queries)))], plan.k, plan.mode)
            start = time.perf_counter()
            try:
                answer = retriever.search(request)
            except Exception as error:
                phase.errors.append(repr(error))
                continue
            phase.milliseconds.append((time.perf_counter() - start) * 1e3)
            phase.incomplete += not answer.coverage.complete
            phase.generations.add(answer.generation)
            wrong = [hit.document_id for hit in answer.hits if not history.holds(hit.document_id, answer.generation)]
            if wrong or answer.generation < last:
                phase.mixed.append(f"generation {answer.generation} after {last}: {wrong}")
            last = answer.generation


def _change(plan: Plan, probe: Retriever, history: History, phase: Phase, *, noticed: bool) -> None:
    """Add documents and delete one of them, each found, or not found any more, before the next."""
    name = _add(plan, history)
    if noticed:
        phase.found_s.append(_until(lambda: _finds(probe, name)))
    history.deleted[name] = read_manifest(plan.store).generation + 1
    delete(plan.store, document_ids=[name])
    if noticed:
        phase.gone_s.append(_until(lambda: not _finds(probe, name)))


def _add(plan: Plan, history: History) -> str:
    """Add documents; the id of the last."""
    number = read_manifest(plan.store).generation + 1
    names = [f"fresh{number}x{i}" for i in range(plan.documents)]
    history.added.update(dict.fromkeys(names, number))
    chance = np.random.default_rng(number)
    texts = [plan.queries[place] for place in chance.integers(len(plan.queries), size=len(names)).tolist()]
    lines = [{"_id": name, "text": f"{name} {text}"} for name, text in zip(names, texts, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "more.jsonl")
        source.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        add(plan.store, [str(source)], encoder=plan.encoder)
    return names[-1]


def _finds(probe: Retriever, name: str) -> bool:
    return any(hit.document_id == name for hit in probe.search(SearchRequest(name, 1, "bm25")).hits)


def _until(holds: Callable[[], bool]) -> float:
    start = time.monotonic()
    while not holds():
        if time.monotonic() > start + _WAIT_S:
            return float("inf")
        time.sleep(_LOOK_S)
    return time.monotonic() - start


@dataclass(frozen=True, slots=True)
class Opening:
    """Seconds and bytes of opening the store."""

    passages: int
    added: int
    seconds: tuple[float, float, float]
    """Of all; with what was added, beside the generation before it; with all codes joined anew, beside both."""
    grown_bytes: tuple[int, int, int]
    """Of the process, each time."""


def measure_opening(plan: Plan) -> Opening:
    """In this process, before and after an addition."""
    seconds, grown = [], []

    def timed(previous: LocalShard | None = None, *, join_all: bool = False) -> LocalShard:
        before, start = _resident_bytes(), time.perf_counter()
        shard = LocalShard(plan.store, previous=previous, join_all=join_all)
        seconds.append(time.perf_counter() - start)
        grown.append(_resident_bytes() - before)
        return shard

    first = timed()
    passages = first.describe().passages
    _add(plan, History())
    second = timed(first)
    third = timed(second, join_all=True)
    for shard in (first, second, third):
        shard.close()
    return Opening(passages, plan.documents, (seconds[0], seconds[1], seconds[2]), (grown[0], grown[1], grown[2]))


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def report(plan: Plan, phases: Sequence[Phase], openings: Sequence[Opening]) -> str:
    """Markdown."""
    lines = [
        "| phase | searches | p50 ms | p99 ms | max ms | errors | mixed | incomplete | generations seen |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for phase in phases:
        p50, p99, most = np.percentile(phase.milliseconds, [50, 99, 100])
        counts = (len(phase.errors), len(phase.mixed), phase.incomplete, len(phase.generations))
        cells = [
            phase.name,
            f"{len(phase.milliseconds):,}",
            *(f"{ms:.1f}" for ms in (p50, p99, most)),
            *map(str, counts),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| from acknowledgement | times | median s | max s |", "| --- | --- | --- | --- |"]
    for what, times in (("added: found", phases[-1].found_s), ("deleted: found no more", phases[-1].gone_s)):
        if times:
            lines.append(f"| {what} | {len(times)} | {np.median(times):.2f} | {max(times):.2f} |")
    if openings:
        lines += ["", "| opening | passages | seconds | memory |", "| --- | --- | --- | --- |"]
    for one in openings:
        ways = ("all of it", f"with {one.added:,} added, beside it", "all joined anew, beside both")
        for what, seconds, size in zip(ways, one.seconds, one.grown_bytes, strict=True):
            lines.append(f"| {what} | {one.passages:,} | {seconds:.2f} | {size / 1e6:+,.0f} MB |")
    command = (
        f"{plan.clients} clients, {plan.shards} shard(s), {plan.mode}, k {plan.k}; a change every {plan.every_s:g} s"
    )
    return "\n".join([f"{command}, {plan.documents} documents in each addition.", "", *lines]) + "\n"


def main() -> int:
    """0 where nothing failed and nothing was mixed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="a copy of a datastore: it is changed")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each of the three phases")
    parser.add_argument("--queries", type=Path, help="one a line; otherwise words of the stored passages")
    parser.add_argument("--dataset", type=Path, help="of bench ann: vectors of additions are drawn from it")
    parser.add_argument("--mode", default="dense", choices=["dense", "bm25", "hybrid"])
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--documents", type=int, default=100, help="in each addition")
    parser.add_argument("--opening", type=int, default=0, help="measure opening too, with so many documents added")
    parser.add_argument("--every-s", type=float, default=2.0, help="between changes")
    parser.add_argument("--out", type=Path, help="for the tables; otherwise standard output")
    given = parser.parse_args()
    fingerprint = read_manifest(given.store).encoder
    encoder = None if given.dataset is None else DrawnVectors(open_dataset(given.dataset), fingerprint)
    queries = _words(given.store) if given.queries is None else given.queries.read_text(encoding="utf-8").splitlines()
    plan = Plan(
        given.store, given.seconds, queries, given.clients, given.shards, given.documents, given.every_s, given.mode,
        encoder=encoder,
    )  # fmt: skip
    phases = campaign(plan, lambda name: _say(name, sys.stderr))
    openings = [measure_opening(replace(plan, documents=given.opening))] if given.opening else []
    text = report(plan, phases, openings)
    if given.out is None:
        sys.stdout.write(text)
    else:
        given.out.write_text(text, encoding="utf-8")
    wrong = [line for phase in phases for line in (*phase.errors, *phase.mixed)]
    for line in wrong[:20]:
        _say(line, sys.stderr)
    return 1 if wrong else 0


def _say(line: str, where: TextIO) -> None:
    where.write(f"{line}\n")


def _words(store: Path) -> list[str]:
    """Some words each of stored passages."""
    with closing(StoreReader(store)) as reader:
        segment = max(reader.segments, key=lambda segment: segment.vectors.rows)
        rows = np.random.default_rng(0).integers(segment.vectors.rows, size=_QUERIES).tolist()
        texts = [" ".join(passage.text.split()[:8]) for passage in segment.passages.get(rows)]
    return [text for text in texts if text]


if __name__ == "__main__":
    sys.exit(main())
