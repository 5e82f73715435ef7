"""All that a run of `pergamon bench filtered` measures, in its order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bench.ann.filtered import (
    GROUPED_SHARES,
    PREDICATES,
    Asked,
    Case,
    CasePoint,
    FilteredBench,
    GroupedPoint,
    PredicatePoint,
)
from bench.ann.filtered_ways import WayPoint, compare_ways
from bench.ann.load import OtherLoad

_WAYS_COMPARED = ("uniform", "region_0")


@dataclass(frozen=True, slots=True)
class FilteredResults:
    command: str
    created: str
    machine: dict[str, object]
    dataset: dict[str, object]
    index: str
    asked: Asked
    cases: tuple[CasePoint, ...] = ()
    predicates: tuple[PredicatePoint, ...] = ()
    grouped: tuple[GroupedPoint, ...] = ()
    ways: tuple[WayPoint, ...] = ()
    others_share: float = 0.0
    """Of the processors' time, what other processes took."""


def measure_filtered(
    bench: FilteredBench, batches: Sequence[int], note: Callable[[str], None], blank: FilteredResults
) -> FilteredResults:
    """`blank` with its points filled in.

    Args:
        batches: numbers of queries that are grouped by filter.
        note: told of each point.
    """
    others = OtherLoad()

    def measured(case: Case) -> CasePoint:
        point = bench.measure(case)
        whose = ", near" if case.near else ""
        new = f"new {point.new_recall:.4f} in {point.new_p50:.2f} ms"
        note(f"{case.where}{whose}: {new}, known {point.known_recall:.4f} in {point.known_p50:.2f} ms")
        return point

    def grouped(share: float, count: int) -> GroupedPoint:
        point = bench.grouped(share, count)
        note(f"{share:.1%}, {count} queries: alone {point.alone_us:.0f} us, grouped {point.grouped_us:.0f} us")
        return point

    cases = bench.cases()
    return replace(
        blank,
        cases=tuple(measured(case) for case in cases),
        predicates=tuple(bench.predicate(where) for where in PREDICATES),
        grouped=tuple(grouped(share, count) for share in GROUPED_SHARES for count in batches),
        ways=tuple(
            point
            for case in cases
            if case.where is not None and case.where.startswith(_WAYS_COMPARED) and not case.near
            for point in compare_ways(bench, case)
        ),
        others_share=others.share(),
    )
