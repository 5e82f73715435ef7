"""A build that ended before its time is gone on with, and comes to the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

import datastore.build as build_module
from datastore.build import build
from datastore.config import BuildConfig, ChunkConfig, IndexConfig
from datastore.encoders.hashing import HashingEncoder
from datastore.errors import InvalidArgument, Unavailable
from datastore.store.manifest import Manifest
from datastore.tasks.executors import Execution
from datastore.tasks.log import LOG_NAME
from datastore.verify import verify
from tests.datastore.tasks.content import Content, read_content

BATCH = 32


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datastore.segmenting._BATCH_PASSAGES", BATCH)


@pytest.fixture(scope="module")
def in_tasks(in_tasks: BuildConfig) -> BuildConfig:
    """Without anything to train, which takes long."""
    return replace(in_tasks, index=IndexConfig("flat"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, corpus: list[str], in_tasks: BuildConfig) -> Content:
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    build(corpus, store, in_tasks)
    return read_content(store)


class Counting(HashingEncoder):
    """Counts passages, and is interrupted where it is told."""

    def __init__(self, stop_at: int = 1 << 60) -> None:
        self.encoded = 0
        self._stop_at = stop_at

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self.encoded >= self._stop_at:
            raise KeyboardInterrupt
        self.encoded += len(texts)
        return super().encode_passages(texts)


def interrupted(inputs: list[str], store: Path, config: BuildConfig, stop_at: int) -> int:
    """Passages that a build encoded until it was interrupted."""
    encoder = Counting(stop_at)
    with pytest.raises(KeyboardInterrupt):
        build(inputs, store, config, encoder=encoder)
    return encoder.encoded


def finished(inputs: list[str], store: Path, config: BuildConfig) -> tuple[int, list[str]]:
    """Passages that the build encoded which went on, and what it said."""
    encoder, notes = Counting(), list[str]()
    build(inputs, store, config, encoder=encoder, on_note=notes.append)
    report = verify(store)
    assert (report.problems, report.orphans) == ((), ())
    return encoder.encoded, notes


@pytest.mark.parametrize("stop_at", [0, 100, 700])
def test_nothing_is_encoded_twice(
    tmp_path: Path, corpus: list[str], in_tasks: BuildConfig, undisturbed: Content, stop_at: int
) -> None:
    store = tmp_path / "store"
    before = interrupted(corpus, store, in_tasks, stop_at)
    after, notes = finished(corpus, store, in_tasks)
    assert before + after == undisturbed.totals[0]
    assert notes == [f"going on with the build that was begun in {store}"]
    assert read_content(store) == undisturbed


def test_interrupted_again_and_again(
    tmp_path: Path, corpus: list[str], in_tasks: BuildConfig, undisturbed: Content
) -> None:
    store = tmp_path / "store"
    encoded = sum(interrupted(corpus, store, in_tasks, stop_at) for stop_at in (10, 300, 1))
    assert encoded + finished(corpus, store, in_tasks)[0] == undisturbed.totals[0]
    assert read_content(store) == undisturbed


def test_killed_while_its_log_was_kept(
    tmp_path: Path, corpus: list[str], in_tasks: BuildConfig, undisturbed: Content
) -> None:
    store = tmp_path / "store"
    interrupted(corpus, store, in_tasks, 300)
    (store / f"{LOG_NAME}.tmp").write_text("half a li")
    finished(corpus, store, in_tasks)
    assert read_content(store) == undisturbed


def _cut(path: Path, count: int) -> None:
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size - count)


def _flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path, Path], object]] = {
    "half a vector": lambda vectors, _: _cut(vectors, 100),
    "no vectors": lambda vectors, _: vectors.unlink(),
    "a changed vector": lambda vectors, _: _flip(vectors, 3),
    "zeros after a power failure": lambda vectors, _: vectors.write_bytes(bytes(vectors.stat().st_size)),
    "half a record": lambda _, journal: _cut(journal, 7),
    "no journal": lambda _, journal: journal.unlink(),
    "vectors that nobody noted": lambda vectors, _: vectors.write_bytes(vectors.read_bytes() + b"x" * 999),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_torn_batches_are_encoded_again(
    tmp_path: Path, corpus: list[str], in_tasks: BuildConfig, undisturbed: Content, damage: str
) -> None:
    store = tmp_path / "store"
    before = interrupted(corpus, store, in_tasks, BATCH)
    (journal,) = store.glob("work/tasks/*/segments/*.vectors")
    (vectors,) = store.glob(f"segments/*-{journal.parent.parent.name}-{journal.stem}/vectors.f16")
    DAMAGE[damage](vectors, journal)
    after, _ = finished(corpus, store, in_tasks)
    assert undisturbed.totals[0] <= before + after <= undisturbed.totals[0] + BATCH
    assert read_content(store) == undisturbed


def test_the_input_has_changed(tmp_path: Path, corpus: list[str], in_tasks: BuildConfig) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_bytes(Path(corpus[0]).read_bytes())
    store = tmp_path / "store"
    interrupted([str(mine)], store, in_tasks, 300)
    with mine.open("ab") as lines:
        lines.write(b'{"_id": "late", "text": "a line that came late"}\n')
    encoded, notes = finished([str(mine)], store, in_tasks)
    assert notes == [f"{store} holds an unfinished build, which is removed: the input has changed since: {mine}"]
    content = read_content(store)
    assert encoded == content.totals[0]
    assert content.passages[-1].document_id == "late"


def test_the_settings_are_others(tmp_path: Path, corpus: list[str], in_tasks: BuildConfig) -> None:
    store = tmp_path / "store"
    interrupted(corpus, store, in_tasks, 300)
    encoded, notes = finished(corpus, store, replace(in_tasks, chunk=ChunkConfig(words=8)))
    (note,) = notes
    assert note.endswith("which is removed: a setting is another: chunk.words = 8 now, chunk.words = 16 then")
    assert encoded == read_content(store).totals[0]


def workers_of(store: Path) -> Iterator[int]:
    """Processes that have a file of the store open and are workers."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            opened = [str(link.readlink()) for link in (process / "fd").iterdir()]
        except OSError:  # it ended meanwhile
            continue
        if b"datastore.tasks.worker" in command and any(path.startswith(str(store)) for path in opened):
            yield int(process.name)


def wait_for_worker(store: Path, where: str) -> int:
    """A worker that has begun with a task, once a file matches `where`."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(store.glob(where)) and (found := next(workers_of(store), None)):
            return found
        time.sleep(0.002)
    raise AssertionError("no worker came")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="workers are found in /proc")
def test_a_worker_is_killed(tmp_path: Path, corpus: list[str], in_tasks: BuildConfig, undisturbed: Content) -> None:
    store = tmp_path / "store"
    killer = subprocess.Popen([sys.executable, "-c", KILLER, str(store)])
    with pytest.raises(Unavailable, match="was killed by signal 9"):
        build(corpus, store, in_tasks, execution=Execution(workers=2))
    assert killer.wait() == 0
    build(corpus, store, in_tasks, execution=Execution(workers=2))
    assert read_content(store) == undisturbed


KILLER = """
import os, signal, sys
from pathlib import Path
from tests.datastore.tasks.test_resume import wait_for_worker
os.kill(wait_for_worker(Path(sys.argv[1]), "segments/*/vectors.f16"), signal.SIGKILL)
"""

BUILD = """
import sys
from pathlib import Path
from datastore.build import build
from datastore.config import load_config
from datastore.tasks.executors import Execution
from datastore.tasks.log import LOG_NAME
toml, store, *inputs = sys.argv[1:]
build(inputs, Path(store), load_config(Path(toml), {}), execution=Execution(workers=2))
"""


def wait_for_end(worker: int) -> None:
    """Until the process has ended, whether or not its new parent has taken note of that."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{worker}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.05)
    raise AssertionError(f"process {worker} goes on")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="workers are found in /proc")
def test_a_worker_refuses_its_input_while_another_is_at_work(
    tmp_path: Path, in_tasks: BuildConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was made goes only when nobody makes more of it."""
    at_work: list[int] = []
    real_sweep = build_module.sweep

    def sweep(store: Path, keep: Path | None = None) -> None:
        at_work.extend(workers_of(store))
        real_sweep(store, keep)

    monkeypatch.setattr("datastore.build.sweep", sweep)
    long, wrong = tmp_path / "long.jsonl", tmp_path / "wrong.parquet"
    long.write_text("".join(f'{{"_id": "{i}", "text": "word{i} and {i * i}"}}\n' for i in range(60_000)))
    pq.write_table(pa.table({"body": ["one"]}), wrong)
    settings = replace(in_tasks, input=replace(in_tasks.input, task_bytes=1 << 30))
    with pytest.raises(InvalidArgument, match=r"wrong\.parquet has no column 'text'"):
        build([str(long), str(wrong)], tmp_path / "store", settings, execution=Execution(workers=2))
    assert at_work == []
    assert {path.name for path in (tmp_path / "store").iterdir()} <= {"write.lock", build_module.REJECTS_NAME}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="workers are found in /proc")
def test_the_workers_of_a_killed_build_end(
    tmp_path: Path, corpus: list[str], in_tasks: BuildConfig, undisturbed: Content
) -> None:
    store, toml = tmp_path / "store", tmp_path / "build.toml"
    toml.write_text(
        'encoder.name = "hashing"\ninput.task_bytes = 15000\ninput.max_rejected_share = 0.2\nchunk.words = 16\n'
        'segment.passages = 60\nindex.kind = "flat"\n'
    )
    with subprocess.Popen([sys.executable, "-c", BUILD, str(toml), str(store), *corpus]) as process:
        worker = wait_for_worker(store, "segments/*/vectors.f16")
        os.kill(worker, signal.SIGSTOP)  # it is slow to notice
        process.send_signal(signal.SIGKILL)
    plan = (store / "work" / "plan.json").read_bytes()
    with ThreadPoolExecutor(1) as threads:
        begun = threads.submit(build, corpus, store, in_tasks)  # with other settings, so that what is there goes first
        try:
            time.sleep(1)
            assert (store / "work" / "plan.json").read_bytes() == plan
        finally:
            os.kill(worker, signal.SIGCONT)
        manifest: Manifest = begun.result()
    wait_for_end(worker)
    assert manifest.passages == undisturbed.totals[0]
    assert read_content(store) == undisturbed
