"""The generations of a shard that are open at the same time, and who still uses them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from datastore.errors import FailedPrecondition
from retriever.local_shard import LocalShard
from retriever.shard import not_held

LINGER_S = 10.0
"""How long a generation stays open after the next one has taken its place: other shards get there later."""

_MOST_LINGERING = 2
"""Generations before the newest that stay open; of more, the one goes that was asked for the longest time ago."""


@dataclass(eq=False)
class _Open:
    shard: LocalShard
    calls: int = 0
    """In it now."""
    asked_s: float = 0.0
    superseded_s: float | None = None
    retired: bool = False
    """Closed with its last call."""


class Generations:
    """The newest generation, and for a while those before it, by their numbers; thread-safe.

    Each is closed when it has been let go of and no call is in it any more.
    """

    def __init__(self, first: LocalShard, linger_s: float) -> None:
        self._lock = threading.Lock()
        self._linger_s = linger_s
        self._name = first.name
        self._newest = _Open(first)
        self._open = {first.generation: self._newest}
        self._closed = False
        self.held: tuple[int, ...] = (first.generation,)
        """The numbers that can be asked for, ascending."""

    @property
    def newest(self) -> LocalShard:
        """For the one who puts another in its place."""
        return self._newest.shard

    @contextmanager
    def lease(self, number: int | None) -> Iterator[LocalShard]:
        """The generation of this number, None for the newest, open at least until the block ends.

        Raises:
            FailedPrecondition, of the field `generation`: it is not open. Or all are closed.
        """
        with self._lock:
            if self._closed:
                raise FailedPrecondition(f"{self._name} is closed; wanted it open", mend="open it again")
            opened = self._newest if number is None else self._open.get(number)
            if opened is None:
                raise not_held(self._name, number, self.held)
            opened.calls += 1
            opened.asked_s = time.monotonic()
        try:
            yield opened.shard
        finally:
            with self._lock:
                opened.calls -= 1
                done = opened.retired and not opened.calls
            if done:
                opened.shard.close()

    def put(self, shard: LocalShard) -> None:
        """Let this one answer from now on. What has its number, opened otherwise, is let go of at once."""
        with self._lock:
            unused = [_Open(shard)] if self._closed else self._put(_Open(shard))
        self._retire(unused)

    def _put(self, newest: _Open) -> list[_Open]:
        """What is not used any more."""
        self._newest.superseded_s = time.monotonic()
        same = self._open.pop(newest.shard.generation, None)
        before = sorted(self._open.values(), key=lambda opened: opened.asked_s)
        self._newest = self._open[newest.shard.generation] = newest
        return [*([] if same is None else [same]), *before[: max(0, len(before) - _MOST_LINGERING)]]

    def expire(self) -> None:
        """Let go of those whose time is over."""
        end = time.monotonic() - self._linger_s
        with self._lock:
            unused = [o for o in self._open.values() if o.superseded_s is not None and o.superseded_s <= end]
        self._retire(unused)

    def close(self) -> None:
        """Let go of all; later calls raise FailedPrecondition."""
        with self._lock:
            self._closed = True
            unused = list(self._open.values())
        self._retire(unused)

    def _retire(self, unused: list[_Open]) -> None:
        with self._lock:
            idle = [opened for opened in unused if not opened.retired and not opened.calls]
            for opened in unused:
                opened.retired = True
            self._open = {number: opened for number, opened in self._open.items() if not opened.retired}
            self.held = tuple(sorted(self._open))
        for opened in idle:
            opened.shard.close()
