"""The shards of a datastore, what is known of each, and the generation that all of them can answer from."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from datastore.errors import DeadlineExceeded, FailedPrecondition, PergamonError, ResourceExhausted, Unavailable
from retriever.shard import Shard, ShardInfo, ShardResult

TOLERATED = (Unavailable, DeadlineExceeded, ResourceExhausted)
"""What one shard may fail with while the others' answer still stands. Anything else is the caller's to know."""

CATCH_UP_S = 3.0
"""How long queries wait for a shard that has fallen behind the others, since that was noticed; then they do without."""

_ONE_DATASTORE = "route to shards of one datastore, with the same N in --shard I/N; restart the router for a new one"


class Membership:
    """The shards that make up a datastore, and what is known of each; thread-safe.

    The first shard that answers says which datastore it is, for good: what queries are encoded with goes with it. A
    shard that cannot be reached is asked again by the next query that needs it.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = tuple(shards)
        self._first: tuple[Shard, ShardInfo] | None = None
        self._infos: dict[Shard, ShardInfo] = {}
        self._answered = 0
        self._behind_since_s: dict[Shard, float] = {}
        self._lock = threading.Lock()

    def info(self, shard: Shard, timeout_s: float | None = None) -> ShardInfo:
        """What `shard` holds; FailedPrecondition if it does not fit to the shards known."""
        known = self._infos.get(shard)
        if known is not None:
            return known
        info = shard.describe(timeout_s)
        with self._lock:
            self._first = self._first or (shard, info)
            _require_same_datastore(shard, info, *self._first)
            for other, other_info in self._infos.items():
                if other is not shard and other_info.shard_index == info.shard_index:
                    raise FailedPrecondition(
                        f"{shard.name} and {other.name} both serve shard {info.shard_index}/{info.shard_count}",
                        mend="give each shard's address once",
                    )
            self._infos[shard] = info
        return info

    def require_same(self, shard: Shard, result: ShardResult) -> None:
        """Raise FailedPrecondition if `shard` answered as another than it was: a server started with other data."""
        known = self._infos.get(shard)
        seen = (result.datastore_id, result.shard_index, result.shard_count)
        if known is not None and seen != (known.datastore_id, known.shard_index, known.shard_count):
            self.forget(shard)
            raise FailedPrecondition(
                f"{shard.name} serves shard {result.shard_index}/{result.shard_count} of datastore "
                f"{result.datastore_id}, and before {known.shard_index}/{known.shard_count} of {known.datastore_id}",
                mend=_ONE_DATASTORE,
            )

    def forget(self, shard: Shard) -> None:
        """After a failure: what comes back at that address may hold something else."""
        with self._lock:
            self._infos.pop(shard, None)

    def known(self, shard: Shard) -> ShardInfo | None:
        """What it said last."""
        return self._infos.get(shard)

    def common_generation(self, infos: Mapping[Shard, ShardInfo]) -> tuple[int, bool]:
        """(generation, whether all these shards hold it): the newest that they have in common, and not older than
        what has been answered from; where there is none, the newest that any should have."""
        held = set.intersection(*(set(info.held) for info in infos.values()))
        with self._lock:
            if len(infos) == len(self.shards) and all(max(info.held) < self._answered for info in infos.values()):
                self._answered = 0  # the datastore was put back to an earlier state
            newest = max(self._answered, *(info.generation for info in infos.values()))
            for shard, info in infos.items():
                if info.generation >= newest:
                    self._behind_since_s.pop(shard, None)
                else:
                    self._behind_since_s.setdefault(shard, time.monotonic())
            common = [generation for generation in held if generation >= self._answered]
        return (max(common), True) if common else (newest, False)

    def may_catch_up(self, shard: Shard) -> bool:
        """Whether a shard that others have left behind is worth waiting for."""
        with self._lock:
            since_s = self._behind_since_s.get(shard)
        return since_s is not None and time.monotonic() < since_s + CATCH_UP_S

    def answered(self, generation: int) -> None:
        """That an answer rests on this generation: no later one rests on an older."""
        with self._lock:
            self._answered = max(self._answered, generation)

    def any_info(self) -> ShardInfo:
        """What any shard says of the whole datastore; the last failure if none is known and none answers."""
        with self._lock:
            known = next(iter(self._infos.values()), None)
        if known is not None:
            return known
        failure: PergamonError | None = None
        for shard in self.shards:
            try:
                return self.info(shard)
            except TOLERATED as error:
                failure = error
        assert failure is not None
        raise failure

    def every(self, holds: Callable[[ShardInfo], bool]) -> bool:
        """Whether all shards are known, and something holds for each."""
        with self._lock:
            return len(self._infos) == len(self.shards) and all(map(holds, self._infos.values()))

    def close(self) -> None:
        for shard in self.shards:
            shard.close()


def _require_same_datastore(shard: Shard, info: ShardInfo, other: Shard, other_info: ShardInfo) -> None:
    if info.datastore_id != other_info.datastore_id or info.shard_count != other_info.shard_count:
        raise FailedPrecondition(
            f"{shard.name} serves shard {info.shard_index}/{info.shard_count} of datastore {info.datastore_id}, "
            f"{other.name} {other_info.shard_index}/{other_info.shard_count} of {other_info.datastore_id}",
            mend=_ONE_DATASTORE,
        )
