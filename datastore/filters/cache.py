"""What filters leave of one segment, kept for the next query that asks for the same."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future
from threading import Lock

from datastore.filters.predicate import Predicate
from datastore.filters.survivors import Survivors
from datastore.store.columns import Columns

_BYTES_PER_PASSAGE = 4
_LEAST_BYTES = 1 << 18


class SurvivorsCache:
    """Survivors by predicate, the least recently asked for leaving first; thread-safe.

    Args:
        columns: of the segment.
        capacity_bytes: of what is kept; None for 4 bytes a passage and at least 256 KiB: 16 predicates or more.
    """

    def __init__(self, columns: Columns, capacity_bytes: int | None = None) -> None:
        self.columns = columns
        least = max(_LEAST_BYTES, _BYTES_PER_PASSAGE * columns.table.num_rows)
        self._capacity = least if capacity_bytes is None else capacity_bytes
        self._lock = Lock()
        self._kept: OrderedDict[str, Survivors] = OrderedDict()
        self._bytes = 0
        self._under_way: dict[str, Future[Survivors]] = {}

    def survivors(self, predicate: Predicate) -> Survivors:
        """The rows for which the predicate is true. Threads that ask for the same at once wait for one computation."""
        key = str(predicate)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            under_way = self._under_way.get(key)
            if under_way is None:
                mine = self._under_way[key] = Future()
        if under_way is not None:
            return under_way.result()
        try:
            found = self._compute(predicate)
        except BaseException as error:
            with self._lock:
                del self._under_way[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._under_way[key]
            self._keep(key, found)
        mine.set_result(found)
        return found

    def _compute(self, predicate: Predicate) -> Survivors:
        from datastore.filters.evaluate import survivors

        return survivors(predicate, self.columns)

    def close(self) -> None:
        """Close the columns."""
        self.columns.close()

    def _keep(self, key: str, found: Survivors) -> None:
        self._kept[key] = found
        self._bytes += _size(key, found)
        while self._bytes > self._capacity:
            self._bytes -= _size(*self._kept.popitem(last=False))


def _size(key: str, survivors: Survivors) -> int:
    return len(key.encode()) + survivors.nbytes
