"""Doing together what waits together."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_LARGEST_BATCH = 64


class Batcher(Generic[Item, Result]):
    """Calls one function for all items that came while the cores were busy; thread-safe.

    An item that comes when a core is free is done at once and alone, in its caller's thread: nothing waits in order to
    be joined by others.

    Args:
        work: the results of some items of one key, in their order.
        at_once: calls of `work` at the same time; None for one a core.
    """

    def __init__(
        self, work: Callable[[Hashable, Sequence[Item]], Sequence[Result]], at_once: int | None = None
    ) -> None:
        self._work = work
        self._places = threading.Semaphore(at_once or os.cpu_count() or 1)
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, list[tuple[Item, Future[Result]]]] = {}

    def run(self, key: Hashable, item: Item) -> Result:
        """The result of `item`, done together with others of an equal key. Raises what `work` raised for its batch."""
        future: Future[Result] = Future()
        with self._lock:
            self._waiting.setdefault(key, []).append((item, future))
        with self._places:
            # What this thread takes need not hold its own item: another may have that in hand.
            batch = [] if future.done() else self._take(key)
            if batch:
                self._do(key, batch)
        return future.result()

    def _take(self, key: Hashable) -> list[tuple[Item, Future[Result]]]:
        with self._lock:
            waiting = self._waiting.get(key, [])
            batch, rest = waiting[:_LARGEST_BATCH], waiting[_LARGEST_BATCH:]
            if rest:
                self._waiting[key] = rest
            else:
                self._waiting.pop(key, None)
            return batch

    def _do(self, key: Hashable, batch: Sequence[tuple[Item, Future[Result]]]) -> None:
        try:
            results = self._work(key, [item for item, _ in batch])
        except BaseException as error:
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)
