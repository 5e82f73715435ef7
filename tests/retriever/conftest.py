"""Datastores to search, opened as any number of shards, in this process or as servers of their own."""

from __future__ import annotations

import json
import random
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from datastore.encoders.hashing import HashingEncoder
from retriever.local_shard import LocalShard
from retriever.membership import Membership
from retriever.router import Router
from retriever.shard import Shard

ROOT = Path(__file__).resolve().parents[2]
TWIN = "granite harbour lantern under a copper sky"
READY_S = 60.0
QUICK = ("--warm-up-s", "0")


def _write_documents(path: Path) -> Path:
    """1,500 documents of Zipf-distributed words, and between them 1,500 of one and the same text."""
    chance = random.Random(11)
    words = [a + b + c for a in ("ba", "ko", "mi", "ru") for b in ("den", "lax", "nor", "tu") for c in ("", "s", "vel")]
    words += TWIN.split()
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    texts = [" ".join(chance.choices(words, weights, k=chance.randint(3, 40))) for _ in range(1500)]
    records = [{"_id": f"text-{i}", "title": f"{words[i % 48]}", "text": text} for i, text in enumerate(texts)]
    records += [{"_id": f"twin-{i}", "text": TWIN} for i in range(1500)]
    chance.shuffle(records)
    with path.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(record) + "\n" for record in records)
    return path


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_documents(tmp_path_factory.mktemp("documents") / "generated.jsonl")


@pytest.fixture(scope="session")
def flat_store(documents: Path, build_store: Callable[..., Path]) -> Path:
    """Flat, nine segments or so, long documents in several passages."""
    return build_store(documents, chunk={"words": 16}, segment={"passages": 500})


@pytest.fixture(scope="session")
def two_segments(documents: Path, build_store: Callable[..., Path]) -> Path:
    """Flat, two segments: other passages than `flat_store`, and another datastore."""
    return build_store(documents, chunk={"words": 0}, segment={"passages": 1500})


@pytest.fixture(scope="session")
def ivf_store(documents: Path, build_store: Callable[..., Path]) -> Path:
    index = {"kind": "ivf-pq", "nlist": 16, "pq_m": 16}
    return build_store(documents, chunk={"words": 16}, segment={"passages": 500}, index=index)


@pytest.fixture
def route() -> Iterator[Callable[[Sequence[Shard]], Router]]:
    """`route(shards)`: a router over them, closed at the end of the test."""
    routers: list[Router] = []

    def make(shards: Sequence[Shard]) -> Router:
        routers.append(Router(Membership(shards), HashingEncoder))
        return routers[-1]

    yield make
    for router in routers:
        router.close()


@pytest.fixture(scope="module")
def sharded() -> Iterator[Callable[[Path, int], Router]]:
    """`sharded(store, n)`: a router over `n` shards of a store in this process, opened once a module."""
    routers: dict[tuple[Path, int], Router] = {}

    def open_once(store: Path, count: int) -> Router:
        if (store, count) not in routers:
            shards = [LocalShard(store, (index, count)) for index in range(count)]
            routers[store, count] = Router(Membership(shards), HashingEncoder)
        return routers[store, count]

    yield open_once
    for router in routers.values():
        router.close()


@dataclass
class Servers:
    """Processes of the command, ended with the test that started them."""

    folder: Path
    processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    """Address -> process."""

    def start(self, *commands: Sequence[str | Path], listen: str = "127.0.0.1:0") -> list[str]:
        """Run `pergamon COMMAND --listen …` for each, side by side; their addresses, HOST:PORT, once they serve."""
        started = [self.spawn(*command, "--listen", listen) for command in commands]
        addresses = []
        for process in started:
            assert process.stdout is not None
            with selectors.DefaultSelector() as waiting:
                waiting.register(process.stdout, selectors.EVENT_READ)
                line = process.stdout.readline() if waiting.select(READY_S) else ""
            assert line.startswith("grpc://"), f"{process.args!r}: {line!r}, {self.errors(process)}"
            addresses.append(line.strip().removeprefix("grpc://"))
            self.processes[addresses[-1]] = process
        return addresses

    def spawn(self, *arguments: str | Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pergamon.cli", *map(str, arguments)]
        number = len(list(self.folder.iterdir()))
        with (self.folder / f"{number}.err").open("w") as errors:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT)
        (self.folder / f"{number}.err").rename(self.folder / f"{process.pid}.err")
        self.processes[f"process {process.pid}"] = process
        return process

    def errors(self, process: subprocess.Popen[str]) -> str:
        return (self.folder / f"{process.pid}.err").read_text()

    def shards(self, store: Path, count: int) -> list[str]:
        return self.start(*(("serve", store, "--shard", f"{index}/{count}", *QUICK) for index in range(count)))

    def signal(self, address: str, number: int) -> None:
        self.processes[address].send_signal(number)

    def kill(self, address: str) -> None:
        self.processes[address].kill()
        self.processes[address].wait()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    folder = tmp_path / "standard-error"
    folder.mkdir()
    running = Servers(folder)
    yield running
    for process in running.processes.values():
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """`eventually(condition)`: waits for it, 10 s at most."""

    def wait(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end, "waited for 10 s in vain"
            time.sleep(0.05)

    return wait
