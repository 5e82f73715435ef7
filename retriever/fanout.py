"""Calling all shards of a datastore at once, and keeping account of those that did not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import TypeVar

from datastore.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    PergamonError,
    ResourceExhausted,
    Unavailable,
)
from retriever.api import Coverage
from retriever.shard import Shard, ShardInfo, ShardResult

Answer = TypeVar("Answer")

_SHARD_SHARE = 0.7
"""Of the time left, what a shard may take: the rest is for an answer without it."""

_ONE_DATASTORE = "route to shards of one datastore, with the same N in --shard I/N; restart the router for a new one"

_TOLERATED = (Unavailable, DeadlineExceeded, ResourceExhausted)
"""What one shard may fail with while the others' answer still stands. Anything else is the caller's to know."""


class Deadline:
    """A point in time, from a number of seconds allowed; None for none."""

    def __init__(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        self._end = None if timeout_s is None else time.monotonic() + timeout_s

    def for_shard_s(self) -> float | None:
        """Seconds that a shard may take from now on; DeadlineExceeded when no time is left."""
        if self._end is None:
            return None
        remaining = self._end - time.monotonic()
        if remaining <= 0:
            raise DeadlineExceeded(
                f"the {self._timeout_s:g} s allowed have passed", mend="allow more time, or ask for less"
            )
        return _SHARD_SHARE * remaining


class Membership:
    """The shards that make up a datastore, and what is known of each; thread-safe.

    The first shard that answers says which datastore it is, for good: what queries are encoded with goes with it. A
    shard that cannot be reached is asked again by the next query that needs it.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = tuple(shards)
        self._first: tuple[Shard, ShardInfo] | None = None
        self._infos: dict[Shard, ShardInfo] = {}
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
            except _TOLERATED as error:
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


class Calls:
    """The calls of one request to all shards.

    A shard that fails one call with an error that the others' answers survive takes no part in the rest of the request,
    and its earlier answers do not count: an answer rests on `coverage().shards_ok` shards, whole.
    """

    def __init__(self, pools: Mapping[Shard, Executor], membership: Membership, deadline: Deadline) -> None:
        self._pools = pools
        self._membership = membership
        self._deadline = deadline
        self._infos: dict[Shard, ShardInfo] = {}
        self._failures: dict[Shard, PergamonError] = {}
        self._generations: dict[Shard, int] = {}
        self._searched: dict[Shard, int] = {}
        self._owners: dict[str, Shard] = {}

    @property
    def shard_count(self) -> int:
        return len(self._membership.shards)

    @property
    def generation(self) -> int:
        """Of the answers that count."""
        return max((g for shard, g in self._generations.items() if self.is_ok(shard)), default=0)

    def is_ok(self, shard: Shard) -> bool:
        return shard not in self._failures

    def owner(self, segment: str) -> Shard:
        return self._owners[segment]

    def each(
        self, call: Callable[[Shard, float | None], Answer], among: Sequence[Shard] | None = None
    ) -> dict[Shard, Answer]:
        """Call every shard that is still ok, all at once, the last of them in this thread; the answers.

        A shard's failure is noted.

        Raises:
            The first error that is not one shard's trouble, or any when no shard is left.
        """
        shards = [shard for shard in (self._membership.shards if among is None else among) if self.is_ok(shard)]
        if not shards:
            return {}
        *others, last = shards
        started = {shard: self._pools[shard].submit(self._call, shard, call) for shard in others}
        answers: dict[Shard, Answer] = {}
        try:
            answers[last] = self._call(last, call)
        except _TOLERATED as error:
            self._fail(last, error)
        for shard, future in started.items():
            try:
                # A call keeps its own deadline, but not while it waits for a thread.
                answers[shard] = future.result(self._deadline.for_shard_s())
            except TimeoutError:
                future.cancel()
                self._fail(
                    shard,
                    DeadlineExceeded(f"{shard.name} did not answer in time", mend="allow more time, or ask for less"),
                )
            except _TOLERATED as error:
                self._fail(shard, error)
        return {shard: answers[shard] for shard in shards if shard in answers}

    def note_results(self, results: Mapping[Shard, ShardResult]) -> None:
        """Take account of search answers; those of an older generation than the newest seen do not count.

        Raises:
            FailedPrecondition: a shard has become one of another datastore, or another shard.
        """
        newest = max((result.generation for result in results.values()), default=0)
        for shard, result in results.items():
            self._membership.require_same(shard, result)
            if result.generation != newest:
                self._fail(
                    shard,
                    Unavailable(
                        f"{shard.name} answered from generation {result.generation}, others from {newest}",
                        mend="wait until every shard has loaded the new generation",
                    ),
                )
            self._generations[shard] = result.generation
            self._searched[shard] = result.passages_searched
            for candidates in (result.dense, result.bm25):
                self._owners.update({candidate.segment: shard for candidate in candidates})

    def coverage(self) -> Coverage:
        ok = [shard for shard in self._membership.shards if self.is_ok(shard)]
        info = self._infos[ok[0]]
        failures = {shard.name: str(error) for shard, error in self._failures.items()}
        for index in self._absent(info.shard_count):
            failures[f"shard {index}/{info.shard_count}"] = "no address of it was given"
        return Coverage(
            shards_total=info.shard_count,
            shards_ok=len(ok),
            passages_total=info.passages_total,
            passages_searched=sum(self._searched.get(shard, 0) for shard in ok),
            failures=failures,
        )

    def _absent(self, shard_count: int) -> list[int]:
        """Shards that no address stands for; which ones is only certain when all addresses have answered once."""
        if len(self._membership.shards) >= shard_count:
            return []
        known = {info.shard_index for shard, info in self._infos.items() if self.is_ok(shard)}
        return [index for index in range(shard_count) if index not in known][
            : shard_count - len(self._membership.shards)
        ]

    def raise_failures(self) -> None:
        """Raise Unavailable, naming them, if any shard did not answer."""
        coverage = self.coverage()
        if not coverage.complete:
            names = "; ".join(f"{name}: {why}" for name, why in sorted(coverage.failures.items()))
            missing = coverage.shards_total - coverage.shards_ok
            raise Unavailable(
                f"{missing} of {coverage.shards_total} shards did not answer ({names})",
                mend="start them again, or ask without completeness",
            )

    def _call(self, shard: Shard, call: Callable[[Shard, float | None], Answer]) -> Answer:
        self._infos[shard] = self._membership.info(shard, self._deadline.for_shard_s())
        return call(shard, self._deadline.for_shard_s())

    def _fail(self, shard: Shard, error: PergamonError) -> None:
        self._failures.setdefault(shard, error)
        self._membership.forget(shard)
        if len(self._failures) == len(self._membership.shards):
            raise error
