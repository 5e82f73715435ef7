"""What the open generations of a store have in common, each part open once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Lock
from typing import Protocol, TypeVar, cast


class _Closable(Protocol):
    def close(self) -> None: ...


Part = TypeVar("Part", bound=_Closable)


@dataclass
class _Held:
    part: _Closable
    holders: int = 1


class Parts:
    """Open files by what they are; each is opened by the first that wants it and closed by the last; thread-safe.

    A key says which bytes are meant, not only where: a part of an equal key is taken for the same.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._held: dict[Hashable, _Held] = {}

    def hold(self, key: Hashable, open_part: Callable[[], Part], opened: ExitStack) -> Part:
        """The part, open until `opened` closes."""
        part = self._take(key) or self._put(key, open_part())
        opened.callback(self._let_go, key)
        return cast("Part", part)

    def _take(self, key: Hashable) -> _Closable | None:
        with self._lock:
            held = self._held.get(key)
            if held is None:
                return None
            held.holders += 1
            return held.part

    def _put(self, key: Hashable, part: _Closable) -> _Closable:
        with self._lock:
            held = self._held.setdefault(key, _Held(part, 0))
            held.holders += 1
        if held.part is not part:  # another thread was faster
            part.close()
        return held.part

    def _let_go(self, key: Hashable) -> None:
        with self._lock:
            held = self._held[key]
            held.holders -= 1
            if held.holders:
                return
            del self._held[key]
        held.part.close()
