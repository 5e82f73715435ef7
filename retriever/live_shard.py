"""A shard that moves to new generations of its store while it answers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datastore.bm25.statistics import Bm25Statistics
from datastore.devices import CPU, DeviceChoice
from datastore.documents import Passage, PassageName
from datastore.errors import FailedPrecondition, PergamonError
from datastore.store.watch import ManifestWatch
from retriever.generations import LINGER_S, Generations
from retriever.local_shard import LocalShard
from retriever.shard import ShardInfo, ShardQuery, ShardResult

REFRESH_S = 0.5
"""Between looks for a new generation."""

_TAIL_SHARE = 1 / 8
"""Of the passages that came since the codes were joined, to those that were joined: beyond it all are joined anew."""

_END_S = 5.0

_LONGEST_PAUSE_S = 60.0
"""Between attempts to open a generation that cannot be opened."""

logger = logging.getLogger(__name__)


class LiveShard:
    """Implements `retriever.shard.Shard` over the newest generation of a store, or of one shard of it; thread-safe.

    A thread looks for a new generation, opens it beside the one that answers, sharing what both have, and puts it in
    its place. A call that began on the old generation ends there. A query may name a generation: those before the
    newest stay open for `linger_s`. One that cannot be opened leaves the one before it answering; why is logged, said
    by `describe`, and tried again.

    Args:
        device: where its codes are searched.
        refresh_s: between looks; 0 for never.
        linger_s: how long a generation stays open after the next one has taken its place.

    Raises:
        What `StoreReader` raises for the generation that it begins with.
    """

    def __init__(
        self,
        store: Path,
        shard: tuple[int, int] = (0, 1),
        device: DeviceChoice = CPU,
        *,
        refresh_s: float = REFRESH_S,
        linger_s: float = LINGER_S,
    ) -> None:
        self._store = store
        self._part = shard
        self._device = device
        self._watch = ManifestWatch(store)
        first = LocalShard(store, shard, device)
        self.name = first.name
        self._generations = Generations(first, linger_s)
        self._error = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._look, args=(refresh_s,), name="refresh", daemon=True)
        if refresh_s > 0:
            self._thread.start()

    def refresh(self) -> bool:
        """Move to the newest generation now, if this is not it; whether it moved.

        For one thread at a time: without `refresh_s`, the caller's.

        Raises:
            FailedPrecondition: the folder holds another datastore now.
            NotFound, FailedPrecondition, DataLoss, ResourceExhausted: it cannot be opened.
        """
        newest = self._generations.newest
        opened = LocalShard(self._store, self._part, self._device, previous=newest)
        try:
            _require_same_datastore(self._store, newest, opened)
            if moves := opened.manifest != newest.manifest:
                opened.try_out()
        except BaseException:
            opened.close()
            raise
        if not moves:
            opened.close()
            return False
        self._generations.put(opened)
        logger.info("%s: generation %d", self.name, opened.generation)
        return True

    def join(self) -> None:
        """Join the codes of all segments, where too many lie beside those that are joined."""
        newest = self._generations.newest
        if newest.tail_share > _TAIL_SHARE:
            opened = LocalShard(self._store, self._part, self._device, previous=newest, join_all=True)
            if opened.manifest == newest.manifest:
                self._generations.put(opened)
            else:  # the next look finds it
                opened.close()

    def _look(self, seconds: float) -> None:
        pause, again_s = seconds, 0.0
        while not self._closing.wait(seconds):
            self._generations.expire()
            # After a failure also without a change: what was missing may have come.
            changed, again = self._watch.changed(), bool(self._error) and time.monotonic() >= again_s
            try:
                if changed or again:
                    self.refresh()
                if changed or again or not self._error:
                    self.join()
                    self._error, pause = "", seconds
                continue
            except PergamonError as error:
                self._failed(error)
            except Exception as error:  # whatever it is, the generation that answers goes on
                logger.exception("%s: a new generation could not be opened", self.name)
                self._failed(PergamonError(f"{type(error).__name__}: {error}", mend="see the server's log"))
            pause = min(2 * pause, _LONGEST_PAUSE_S)
            again_s = time.monotonic() + pause

    def _failed(self, error: PergamonError) -> None:
        generation = self._generations.newest.generation
        if str(error) != self._error and not self._closing.is_set():
            logger.warning("%s stays at generation %d: %s", self.name, generation, error)
        self._error = str(error)

    @contextmanager
    def _at(self, generation: int | None) -> Iterator[LocalShard]:
        with self._generations.lease(generation) as opened:
            yield opened

    def describe(self, timeout_s: float | None = None, generation: int | None = None) -> ShardInfo:
        with self._at(generation) as opened:
            return replace(opened.describe(), generations=self._generations.held, refresh_error=self._error)

    def warm_up(self, seconds: float) -> None:
        """Search for what passages begin with, until the way is warm."""
        with self._at(None) as opened:
            opened.warm_up(seconds)

    def search(self, query: ShardQuery) -> ShardResult:
        with self._at(query.generation) as opened:
            return replace(opened.search(query), generations=self._generations.held)

    def bm25_statistics(
        self, text: str, timeout_s: float | None = None, generation: int | None = None
    ) -> tuple[int, Bm25Statistics]:
        with self._at(generation) as opened:
            return opened.bm25_statistics(text)

    def fetch(
        self, rows: Sequence[tuple[str, int]], timeout_s: float | None = None, generation: int | None = None
    ) -> list[Passage]:
        with self._at(generation) as opened:
            return opened.fetch(rows)

    def fetch_vectors(
        self, rows: Sequence[tuple[str, int]], timeout_s: float | None = None, generation: int | None = None
    ) -> NDArray[np.float32]:
        with self._at(generation) as opened:
            return opened.fetch_vectors(rows)

    def lookup(
        self, names: Sequence[PassageName], timeout_s: float | None = None, generation: int | None = None
    ) -> list[Passage | None]:
        with self._at(generation) as opened:
            return opened.lookup(names)

    def close(self) -> None:
        """End the looking, and close every generation when the calls in it have ended."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(_END_S)  # a generation that it is opening just now it closes itself
        self._generations.close()


def _require_same_datastore(store: Path, now: LocalShard, then: LocalShard) -> None:
    """What queries are encoded with, and what routers take this shard for, goes with the datastore."""
    if then.manifest.datastore_id != now.manifest.datastore_id:
        raise FailedPrecondition(
            f"{store} holds the datastore {then.manifest.datastore_id} now, and held {now.manifest.datastore_id} when "
            "it was opened",
            mend="restart the server, or open the store anew",
        )
    if then.manifest.encoder != now.manifest.encoder:
        raise FailedPrecondition(
            f"{store} is of the encoder {then.manifest.encoder.name!r} now, other than {now.manifest.encoder.name!r} "
            "when it was opened",
            mend="restart the server, or open the store anew",
        )
