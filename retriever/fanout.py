"""Calling all shards of a datastore at once, and keeping account of those that did not answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import TypeVar

from datastore.errors import DeadlineExceeded, FailedPrecondition, PergamonError, Unavailable
from retriever.api import Coverage
from retriever.membership import TOLERATED, Membership
from retriever.shard import Shard, ShardInfo, ShardResult, is_not_held

Answer = TypeVar("Answer")

_SHARD_SHARE = 0.7
"""Of the time left, what a shard may take: the rest is for an answer without it."""

_PAUSE_S = 0.05
"""Before a shard that has fallen behind is asked again."""


class Moved(Exception):
    """The shards have gone on to other generations during a request, which is then to be asked again."""


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

    def allows(self, seconds: float) -> bool:
        """Whether so much time is left, with as much again for an answer."""
        return self._end is None or time.monotonic() + 2 * seconds < self._end


class Calls:
    """The calls of one request to all shards.

    A shard that fails one call with an error that the others' answers survive takes no part in the rest of the request,
    and its earlier answers do not count: an answer rests on `coverage().shards_ok` shards, whole.

    All answer from one generation: with one shard that of its first answer, with several the newest that all hold. Any
    call may raise `Moved`: then the request begins anew, with new `Calls`.
    """

    def __init__(self, pools: Mapping[Shard, Executor], membership: Membership, deadline: Deadline) -> None:
        self._pools = pools
        self._membership = membership
        self._deadline = deadline
        self._infos: dict[Shard, ShardInfo] = {}
        self._failures: dict[Shard, PergamonError] = {}
        self.generation: int | None = None
        """What to ask each shard for."""
        self._settled: set[Shard] = set()
        self._results: dict[Shard, ShardResult] = {}
        self._owners: dict[str, Shard] = {}

    @property
    def shard_count(self) -> int:
        return len(self._membership.shards)

    def settle(self, *, anew: bool = False) -> None:
        """Choose the generation, asking the shards of which it is not known what they hold; with `anew`, all.

        A shard that has long fallen behind the others does not count as answering.
        """
        shards = self._membership.shards
        if len(shards) == 1:
            return
        if anew:
            for shard in shards:
                self._membership.forget(shard)
        known = {shard: info for shard in shards if (info := self._membership.known(shard)) is not None}
        self.each(lambda shard, _: None, among=[shard for shard in shards if shard not in known])
        self._infos.update(known)
        infos = {shard: info for shard, info in self._infos.items() if self.is_ok(shard)}
        generation, common = self._membership.common_generation(infos)
        if not common:
            self._leave_behind([s for s, info in infos.items() if generation not in info.held], generation)
        self.generation = generation
        self._settled = {shard for shard in infos if self.is_ok(shard)}

    def _leave_behind(self, shards: Sequence[Shard], generation: int) -> None:
        """Go on without shards that do not hold this generation, unless one of them soon might."""
        if any(map(self._membership.may_catch_up, shards)) and self._deadline.allows(_PAUSE_S):
            time.sleep(_PAUSE_S)
            for shard in shards:
                self._membership.forget(shard)
            raise Moved
        for shard in shards:
            held = self._infos[shard].held
            self._fail(
                shard,
                Unavailable(
                    f"{shard.name} holds generation {', '.join(map(str, held))}, and others answer from {generation}",
                    mend="look for the reason in its log; it takes part again when it has loaded that generation",
                ),
            )

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
        except TOLERATED as error:
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
            except TOLERATED as error:
                self._fail(shard, error)
        return {shard: answers[shard] for shard in shards if shard in answers}

    def note_results(self, results: Mapping[Shard, ShardResult]) -> None:
        """Take account of search answers; those of an older generation than the newest seen do not count.

        Raises:
            FailedPrecondition: a shard has become one of another datastore, or another shard.
            Moved: there is a newer generation that all of them hold.
        """
        self._require_newest(results)
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
            self._results[shard] = result
            for candidates in (result.dense, result.bm25):
                self._owners.update({candidate.segment: shard for candidate in candidates})
        self.generation = newest
        self._membership.answered(newest)

    def _require_newest(self, results: Mapping[Shard, ShardResult]) -> None:
        """What a shard holds is learnt from its answers, too."""
        for shard, result in results.items():
            if result.held != self._infos[shard].held:
                self._membership.forget(shard)
        if self.generation is not None and self._settled == set(results):
            common = set.intersection(*(set(result.held) for result in results.values()))
            if max(common, default=0) > self.generation:
                raise Moved

    def coverage(self) -> Coverage:
        ok = [shard for shard in self._membership.shards if self.is_ok(shard)]
        info, answered = self._infos[ok[0]], [self._results[shard] for shard in ok if shard in self._results]
        failures = {shard.name: str(error) for shard, error in self._failures.items()}
        for index in self._absent(info.shard_count):
            failures[f"shard {index}/{info.shard_count}"] = "no address of it was given"
        return Coverage(
            shards_total=info.shard_count,
            shards_ok=len(ok),
            passages_total=max((result.passages_total for result in answered), default=0) or info.passages_total,
            passages_searched=sum(result.passages_searched for result in answered),
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
        try:
            return call(shard, self._deadline.for_shard_s())
        except FailedPrecondition as error:
            if not is_not_held(error):
                raise
            self._membership.forget(shard)
            raise Moved from None

    def _fail(self, shard: Shard, error: PergamonError) -> None:
        self._failures.setdefault(shard, error)
        self._membership.forget(shard)
        if len(self._failures) == len(self._membership.shards):
            raise error
