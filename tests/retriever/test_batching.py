"""What waits together is done together, once each, and what is alone is done at once."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from retriever.batching import Batcher


def test_every_item_gets_its_own_result() -> None:
    def work(key: Hashable, items: Sequence[int]) -> list[tuple[Hashable, int]]:
        return [(key, 2 * item) for item in items]

    batcher: Batcher[int, tuple[Hashable, int]] = Batcher(work, at_once=2)
    with ThreadPoolExecutor(32) as threads:
        results = list(threads.map(lambda item: batcher.run(item % 3, item), range(2000)))
    assert results == [(item % 3, 2 * item) for item in range(2000)]


def test_what_waits_is_joined() -> None:
    batches: list[list[int]] = []
    started, go_on = threading.Event(), threading.Event()

    def work(key: Hashable, items: Sequence[int]) -> Sequence[int]:
        batches.append(list(items))
        started.set()
        assert go_on.wait(10)
        return items

    batcher: Batcher[int, int] = Batcher(work, at_once=1)
    with ThreadPoolExecutor(10) as threads:
        first = threads.submit(batcher.run, "a", 0)
        assert started.wait(10)
        others = [threads.submit(batcher.run, "a", item) for item in range(1, 10)]
        while len(batcher._waiting.get("a", [])) < 9:
            pass
        go_on.set()
        assert [first.result(10), *(future.result(10) for future in others)] == list(range(10))
    assert batches[0] == [0]
    assert sorted(batches[1]) == list(range(1, 10))


def test_a_failure_reaches_all_of_its_batch_and_no_other() -> None:
    def work(key: Hashable, items: Sequence[int]) -> Sequence[int]:
        if key == "bad":
            raise ValueError("no")
        return items

    batcher: Batcher[int, int] = Batcher(work, at_once=1)
    for _ in range(3):
        with pytest.raises(ValueError, match="no"):
            batcher.run("bad", 1)
        assert batcher.run("good", 2) == 2
