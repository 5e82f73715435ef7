"""A part is open once, for as long as anybody holds it."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from datastore.store.parts import Parts


class File:
    def __init__(self, opened: list[File]) -> None:
        self.closed = 0
        opened.append(self)

    def close(self) -> None:
        self.closed += 1


def test_the_first_opens_and_the_last_closes() -> None:
    parts, opened = Parts(), list[File]()
    with ExitStack() as first:
        mine = parts.hold("a", lambda: File(opened), first)
        with ExitStack() as second:
            assert parts.hold("a", lambda: File(opened), second) is mine
            assert parts.hold("b", lambda: File(opened), second) is not mine
            first.close()
            assert mine.closed == 0
        assert [file.closed for file in opened] == [1, 1]
    with ExitStack() as later:
        assert parts.hold("a", lambda: File(opened), later) is not mine
    assert [file.closed for file in opened] == [1, 1, 1]


def test_what_cannot_be_opened_is_not_held() -> None:
    parts = Parts()

    def fail() -> File:
        raise OSError("gone")

    with ExitStack() as stack, pytest.raises(OSError, match="gone"):
        parts.hold("a", fail, stack)
    with ExitStack() as stack:
        assert parts.hold("a", lambda: File([]), stack).closed == 0


def test_of_two_that_open_at_once_one_stays() -> None:
    parts, opened, together = Parts(), list[File](), threading.Barrier(2, timeout=10)
    held: list[File] = []

    def slowly() -> File:
        together.wait()
        return File(opened)

    def hold() -> None:
        with ExitStack() as stack:
            held.append(parts.hold("a", slowly, stack))
            together.wait()

    threads = [threading.Thread(target=hold) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert held[0] is held[1]
    assert [file.closed for file in opened] == [1, 1]
