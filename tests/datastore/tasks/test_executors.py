"""Whoever does the tasks of a build, the same datastore comes out."""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from time import sleep

import pytest

from datastore.array_job import build_share, publish_build
from datastore.build import build
from datastore.config import BuildConfig, ChunkConfig, InputConfig
from datastore.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from datastore.store.lock import write_lock
from datastore.tasks.executors import Execution
from datastore.tasks.stages import OnStep, Stage, Worker
from datastore.verify import verify
from tests.datastore.tasks.content import Content, read_content


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, corpus: list[str], in_tasks: BuildConfig) -> Content:
    store = tmp_path_factory.mktemp("here") / "store"
    build(corpus, store, in_tasks)
    return read_content(store)


def test_one_task_holds_what_many_do(
    tmp_path: Path, corpus: list[str], in_tasks: BuildConfig, undisturbed: Content
) -> None:
    """The oracle of everything below: a build that is not cut at all."""
    whole = replace(in_tasks, input=InputConfig(max_rejected_share=0.2))
    build(corpus, tmp_path / "store", whole)
    alone = read_content(tmp_path / "store")
    assert alone.passages == undisturbed.passages
    assert alone.rejects == undisturbed.rejects
    assert len(alone.rejects.splitlines()) == 15 + 15 + 10
    assert (
        alone.counted
        == undisturbed.counted
        == (
            {"duplicate id": 15, "near duplicate": 10, "not JSON": 15},
            {"email": 5},
        )
    )
    tasks = {name.split("-")[1] for name in undisturbed.segments}
    assert len(tasks) > 5
    assert alone.segments == [f"00000001-{i:06d}" for i in range(len(alone.segments))]
    assert alone.totals == undisturbed.totals


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_worker_processes(
    tmp_path: Path, corpus: list[str], in_tasks: BuildConfig, undisturbed: Content, workers: int
) -> None:
    build(corpus, tmp_path / "store", in_tasks, execution=Execution(workers=workers))
    assert read_content(tmp_path / "store") == undisturbed
    report = verify(tmp_path / "store")
    assert (report.problems, report.orphans) == ((), ())


def test_an_array_job(tmp_path: Path, corpus: list[str], in_tasks: BuildConfig, undisturbed: Content) -> None:
    """One element after another: each can go on only as far as those before it; publishing does the rest."""
    store = tmp_path / "store"
    assert build_share(corpus, store, in_tasks, (0, 2)) is Stage.SCAN
    assert build_share(corpus, store, in_tasks, (1, 2)) is Stage.PASSAGES
    assert build_share(corpus, store, in_tasks, (0, 2)) is Stage.INDEX
    with pytest.raises(FailedPrecondition, match="another build is being done"), write_lock(store, shared=True):
        build_share(corpus, store, replace(in_tasks, chunk=ChunkConfig(words=9)), (1, 2))
    publish_build(store)
    assert read_content(store) == undisturbed
    with pytest.raises(AlreadyExists, match="has been published"):
        publish_build(store)
    with pytest.raises(NotFound, match="no build to publish"):
        publish_build(tmp_path / "another")


def test_an_array_job_all_at_once(
    tmp_path: Path, corpus: list[str], in_tasks: BuildConfig, undisturbed: Content
) -> None:
    store = tmp_path / "store"
    with ThreadPoolExecutor(3) as threads:
        ended = list(threads.map(lambda i: build_share(corpus, store, in_tasks, (i, 3)), range(3)))
    # One that began late, when the others had ended, has its share left.
    assert ended == [None] * 3 or Stage.SCAN in ended
    publish_build(store)
    assert read_content(store) == undisturbed


def test_an_array_job_whose_elements_pause_between_tasks(
    tmp_path: Path, corpus: list[str], in_tasks: BuildConfig, undisturbed: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is at work, though at no task just now, is waited for."""
    store = tmp_path / "store"
    work = Worker.run
    first = Barrier(2)

    def slowly(worker: Worker, stage: Stage, task: int, on_step: OnStep) -> None:
        if task < 2 and stage is Stage.SCAN:
            first.wait(60)
        sleep(0.1 * (task % 2))
        work(worker, stage, task, on_step)

    monkeypatch.setattr(Worker, "run", slowly)
    with ThreadPoolExecutor(2) as threads:
        ended = list(threads.map(lambda i: build_share(corpus, store, in_tasks, (i, 2)), range(2)))
    assert ended == [None, None]
    publish_build(store)
    assert read_content(store) == undisturbed


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install 'pergamon[ray]'")
@pytest.mark.filterwarnings("ignore")
def test_on_ray(tmp_path: Path, corpus: list[str], in_tasks: BuildConfig, undisturbed: Content) -> None:
    build(corpus, tmp_path / "store", in_tasks, execution=Execution("ray", workers=2))
    assert read_content(tmp_path / "store") == undisturbed


def test_what_executors_refuse(tmp_path: Path, corpus: list[str], in_tasks: BuildConfig) -> None:
    with pytest.raises(InvalidArgument, match="workers is 0"):
        Execution(workers=0)
    if importlib.util.find_spec("ray") is None:
        with pytest.raises(FailedPrecondition, match="which is not installed"):
            build(corpus, tmp_path / "store", in_tasks, execution=Execution("ray"))
