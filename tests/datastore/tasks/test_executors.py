"""Whoever does the tasks of a build, the same datastore comes out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from datastore.build import build
from datastore.config import BuildConfig, InputConfig
from datastore.tasks.executors import Execution
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
    assert len(alone.rejects.splitlines()) == 24 + 24
    tasks = {name.split("-")[1] for name in undisturbed.segments}
    assert len(tasks) > 8
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
