"""How much of an index must be looked at for a recall: measured once (`datastore.ann.sweep`), kept in the manifest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from datastore.errors import InvalidArgument

QuerySource = Literal["passages", "queries"]

_STALE = 0.1
"""Passages more or fewer, as a share, that change recall by less than what other queries do."""
_FEWER_MISSED = 0.75
"""A point stays between two others only if the dearer one misses less than this share of what the cheaper one does."""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What one setting of a search came to."""

    nprobe: int
    candidate_depth: int
    recall: float
    """Mean over the queries of the share of the k nearest passages that were found."""
    recall_error: float
    """Standard error of that mean."""
    codes: int
    """In so many lists of mean length."""
    milliseconds: float
    """Median of single queries on one thread, where and when it was measured: for people, nothing is chosen by it."""

    @property
    def assured(self) -> float:
        """What to expect of other queries like these: the mean less its standard error."""
        return self.recall - self.recall_error


@dataclass(frozen=True, slots=True)
class RecallCurve:
    """The settings worth choosing for the k best: each costs more than the one before, and assures a higher recall."""

    k: int
    points: tuple[OperatingPoint, ...]

    @property
    def highest(self) -> float:
        """The highest recall that can be asked for, cut to four digits."""
        return math.floor(self.points[-1].assured * 1e4) / 1e4


@dataclass(frozen=True, slots=True)
class Setting:
    """Probes and candidate depth of one search."""

    nprobe: int
    candidate_depth: int


@dataclass(frozen=True, slots=True)
class OperatingCurve:
    """Recall against cost of a datastore's index, and what it was measured over."""

    source: QuerySource
    """`passages`: the queries were stored vectors, each kept from finding itself; `queries`: texts given for it."""
    queries: int
    seed: int
    generation: int
    """Whose segments it was measured over."""
    passages: int
    """Of that generation. A datastore that has another number now has changed since."""
    measured_passages: int
    """Of the segments measured over; less than `passages` where those were a sample."""
    curves: tuple[RecallCurve, ...]
    """By ascending k, none twice, at least one."""

    def stale(self, passages: int) -> bool:
        """Whether a datastore that has so many passages now has changed too much to go by it."""
        return abs(passages - self.passages) > _STALE * self.passages

    def curve_for(self, k: int) -> RecallCurve:
        """Of the smallest k measured that is no smaller; of the largest for any k beyond."""
        return next((curve for curve in self.curves if curve.k >= k), self.curves[-1])

    def setting(self, k: int, recall: float) -> Setting:
        """The cheapest setting that assures `recall` of the best k; beyond the largest k measured, of so many.

        Between two points measured, probes are interpolated linearly, with the depth of the dearer one: recall grows
        with probes by less and less, so that it lies above the chord.

        Raises:
            InvalidArgument: no setting measured assures so much.
        """
        curve = self.curve_for(k)
        if recall > curve.highest:
            raise InvalidArgument(
                f"recall is {recall:g}; the highest measured on this datastore is {curve.highest:g} "
                f"(of the best {curve.k}, over {self.queries} queries)",
                mend=f"ask for at most {curve.highest:g}, or choose nprobe and candidate_depth yourself",
                field="recall",
            )
        above = next(i for i, point in enumerate(curve.points) if point.assured >= recall)
        high = curve.points[above]
        low = curve.points[max(above - 1, 0)]
        if low.nprobe >= high.nprobe or low.candidate_depth > high.candidate_depth:
            return Setting(high.nprobe, high.candidate_depth)
        share = (recall - low.assured) / (high.assured - low.assured)
        return Setting(math.ceil(low.nprobe + share * (high.nprobe - low.nprobe)), high.candidate_depth)


def check_recall(recall: float) -> float:
    """`recall`; InvalidArgument unless it is between 0 and 1."""
    if not 0.0 < recall < 1.0:  # also refuses NaN
        raise InvalidArgument(
            f"recall is {recall:g}; it must be greater than 0 and less than 1",
            mend="pass a recall such as 0.95",
            field="recall",
        )
    return recall


def front(points: Sequence[tuple[float, OperatingPoint]]) -> tuple[OperatingPoint, ...]:
    """Of (cost, point) those that no other betters, ascending: a higher recall assured than by all that cost as much.

    Points that hardly differ from the one before are left out; interpolation does as well.
    """
    kept: list[OperatingPoint] = []
    best = -math.inf
    for _, point in sorted(points, key=lambda item: (item[0], -item[1].assured)):
        if point.assured <= best:
            continue
        if len(kept) > 1 and 1.0 - point.assured > _FEWER_MISSED * (1.0 - kept[-2].assured):
            kept.pop()
        kept.append(point)
        best = point.assured
    return tuple(kept)
