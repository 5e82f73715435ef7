"""What a search costs, as fitted to measurements: `calibration.json`, which `python -m bench.plan.calibrate` writes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from statistics import geometric_mean

from pydantic import ConfigDict, TypeAdapter

from datastore.errors import InvalidArgument

CALIBRATION_NAME = "calibration.json"


@dataclass(frozen=True, slots=True)
class Linear:
    """A time in microseconds: `fixed_us` and `byte_us` for each byte read."""

    fixed_us: float
    byte_us: float

    def at(self, read_bytes: float) -> float:
        return self.fixed_us + self.byte_us * read_bytes


@dataclass(frozen=True, slots=True)
class Scan:
    """Microseconds of what a search does beside the coarse level and the exact products."""

    fixed_us: float
    probe_us: float
    """For each list read."""
    code_byte_us: float
    """For each byte of the codes read."""
    candidate_us: float
    """For each candidate that is to be reranked."""

    def at(self, probes: float, code_bytes: float, depth: float) -> float:
        return self.fixed_us + self.probe_us * probes + self.code_byte_us * code_bytes + self.candidate_us * depth


@dataclass(frozen=True, slots=True)
class Workspace:
    """Bytes that searches take beside the index; the last two for each query that a thread searches for at once."""

    fixed_bytes: float
    probe_bytes: float
    candidate_bytes: float

    def at(self, queries: float, probes: float, depth: float) -> float:
        return self.fixed_bytes + queries * (self.probe_bytes * probes + self.candidate_bytes * depth)


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Probes and candidate depth that reached a recall@10."""

    recall: float
    nprobe: float
    depth: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One collection of vectors, and the points on the front of recall and cost measured on it, by rising recall."""

    source: str
    """File of results."""
    passages: int
    nlist: int
    points: tuple[OperatingPoint, ...]

    def at(self, recall: float) -> OperatingPoint | None:
        """Between two points on a line in the logarithms of probes and depth; None beyond the last."""
        if self.points[-1].recall < recall:
            return None
        if self.points[0].recall >= recall:
            return self.points[0]
        low, high = next(pair for pair in pairwise(self.points) if pair[1].recall >= recall)
        share = (recall - low.recall) / (high.recall - low.recall)
        return OperatingPoint(recall, _between(low.nprobe, high.nprobe, share), _between(low.depth, high.depth, share))


@dataclass(frozen=True, slots=True)
class KindCost:
    """Of an IVF kind."""

    engine: str
    """As `pergamon bench ann` names it."""
    single: Scan
    """One query alone, one thread."""
    batch: Scan
    """A query's share of a batch, all threads of one physical core."""
    workspace: Workspace
    measured: tuple[Measured, ...]
    """By rising number of passages."""

    def operating_point(self, recall: float, passages: int) -> OperatingPoint:
        """What reaches `recall` among so many passages: on a line in the logarithms between the sizes measured, and on
        beyond them, but never with fewer probes than at the largest size measured. Of several collections of one size,
        halfway between them.

        Raises:
            InvalidArgument: no measurement reached that recall.
        """
        reached = [(one.passages, point) for one in self.measured if (point := one.at(recall)) is not None]
        if not reached:
            best = max(one.points[-1].recall for one in self.measured)
            raise InvalidArgument(
                f"recall is {recall:g}; measured was up to {best:.3f}", mend="ask for less", field="recall"
            )
        sizes = dict.fromkeys(size for size, _ in reached)
        reached = [(size, _middle([point for one, point in reached if one == size])) for size in sizes]
        if len(reached) == 1:
            return reached[0][1]
        above = next((at for at, (size, _) in enumerate(reached) if size >= passages), len(reached) - 1)
        (small, low), (large, high) = reached[max(above, 1) - 1 : max(above, 1) + 1]
        share = math.log(passages / small) / math.log(large / small)
        nprobe, depth = _between(low.nprobe, high.nprobe, share), _between(low.depth, high.depth, share)
        if share > 1:
            nprobe, depth = max(nprobe, high.nprobe), max(depth, high.depth)
        return OperatingPoint(recall, nprobe, depth)


@dataclass(frozen=True, slots=True)
class Calibration:
    __pydantic_config__ = ConfigDict(extra="forbid")
    command: str
    """Which made the file."""
    machine: str
    coarse_single: Linear
    """Of the coarse level by 4-bit codes, by bytes of them: dimension / 4 a list."""
    coarse_batch: Linear
    coarse_flat_single: Linear
    """Of a coarse level that compares all centroids, by bytes of them: 4 x dimension a list."""
    coarse_flat_batch: Linear
    exact: Linear
    """Of exact products with vectors in memory, by bytes of them: 2 x dimension a candidate."""
    kinds: Mapping[str, KindCost]


@cache
def calibration() -> Calibration:
    text = files("datastore.plan").joinpath(CALIBRATION_NAME).read_text(encoding="utf-8")
    return TypeAdapter(Calibration).validate_json(text)


def front(points: Sequence[tuple[OperatingPoint, float]]) -> tuple[OperatingPoint, ...]:
    """Of points with their costs, those that no other beats in both recall and cost, by rising recall."""
    kept: list[tuple[OperatingPoint, float]] = []
    for point, cost in sorted(points, key=lambda one: (-one[0].recall, one[1])):
        if not kept or cost < kept[-1][1]:
            kept.append((point, cost))
    return tuple(point for point, _ in kept[::-1])


def _middle(points: Sequence[OperatingPoint]) -> OperatingPoint:
    """The geometric mean of probes and depth."""
    if len(points) == 1:
        return points[0]
    return OperatingPoint(
        points[0].recall,
        geometric_mean([point.nprobe for point in points]),
        geometric_mean([point.depth for point in points]),
    )


def _between(low: float, high: float, share: float) -> float:
    return math.exp((1 - share) * math.log(low) + share * math.log(high))
