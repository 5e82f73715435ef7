from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from datastore.documents import Passage
from datastore.filters import evaluate
from datastore.filters.cache import SurvivorsCache
from datastore.filters.language import parse
from datastore.filters.predicate import Predicate
from datastore.filters.survivors import Survivors
from datastore.store.columns import Columns, ColumnsWriter


@pytest.fixture
def columns(tmp_path: Path) -> Columns:
    writer = ColumnsWriter(tmp_path / "c")
    writer.add([Passage(f"d{i}", 0, "t", "", "s", 0, 1, {"x": i}) for i in range(800)])
    writer.close()
    return Columns(tmp_path / "c", 800)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was computed, in order."""
    done: list[str] = []
    real = evaluate.survivors

    def survivors(predicate: Predicate, columns: Columns) -> Survivors:
        done.append(str(predicate))
        return real(predicate, columns)

    monkeypatch.setattr(evaluate, "survivors", survivors)
    return done


def test_equal_predicates_are_computed_once(columns: Columns, computed: list[str]) -> None:
    cache = SurvivorsCache(columns)
    found = cache.survivors(parse("x >= 5 and x < 7.0"))
    assert found.rows.tolist() == [5, 6]
    assert cache.survivors(parse("not not (x<7) AND (x>=5)")) is found
    assert computed == ["x < 7 and x >= 5"]


def test_true_is_not_one(columns: Columns) -> None:
    cache = SurvivorsCache(columns)
    assert cache.survivors(parse("x = true")).count == 0
    assert cache.survivors(parse("x = 1")).count == 1


def test_the_least_recently_used_leaves_first(columns: Columns, computed: list[str]) -> None:
    cache = SurvivorsCache(columns, capacity_bytes=2 * (2 * 100 + len("x = 1")))
    for where in ("x = 1", "x = 2", "x = 1", "x = 3", "x = 1", "x = 2"):
        cache.survivors(parse(where))
    assert computed == ["x = 1", "x = 2", "x = 3", "x = 2"]


def test_what_does_not_fit_is_answered_and_not_kept(columns: Columns, computed: list[str]) -> None:
    cache = SurvivorsCache(columns, capacity_bytes=100)
    for _ in range(2):
        assert cache.survivors(parse("x = 1")).rows.tolist() == [1]
    assert computed == ["x = 1", "x = 1"]


def test_threads_that_ask_at_once_wait_for_one_computation(columns: Columns, monkeypatch: pytest.MonkeyPatch) -> None:
    started, go_on, computations = threading.Event(), threading.Event(), []
    real = evaluate.survivors

    def slow(predicate: Predicate, columns: Columns) -> Survivors:
        computations.append(predicate)
        started.set()
        assert go_on.wait(10)
        return real(predicate, columns)

    monkeypatch.setattr(evaluate, "survivors", slow)
    cache = SurvivorsCache(columns)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(cache.survivors, parse("x < 3")) for _ in range(8)]
        assert started.wait(10)
        go_on.set()
        assert len({id(answer.result(10)) for answer in answers}) == 1
    assert len(computations) == 1


def test_a_failure_is_everyones_and_is_not_kept(columns: Columns, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(predicate: Predicate, columns: Columns) -> Survivors:
        raise MemoryError

    cache = SurvivorsCache(columns)
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "survivors", fail)
        for _ in range(2):
            with pytest.raises(MemoryError):
                cache.survivors(parse("x = 1"))
    assert cache.survivors(parse("x = 1")).count == 1


def test_many_threads_and_predicates(columns: Columns) -> None:
    cache = SurvivorsCache(columns, capacity_bytes=1000)
    with ThreadPoolExecutor(8) as pool:
        counts = pool.map(lambda i: cache.survivors(parse(f"x < {i % 13}")).count, range(500))
    assert list(counts) == [i % 13 for i in range(500)]
