"""From a recall asked for to probes and depth, by hand."""

from __future__ import annotations

import pytest

from datastore.ann.operating_curve import (
    OperatingCurve,
    OperatingPoint,
    RecallCurve,
    Setting,
    check_recall,
    front,
)
from datastore.errors import InvalidArgument


def point(nprobe: int, depth: int, recall: float, error: float = 0.0) -> OperatingPoint:
    return OperatingPoint(nprobe, depth, recall, error, 10 * nprobe, 0.1 * nprobe)


TEN = RecallCurve(10, (point(1, 42, 0.5), point(4, 42, 0.8), point(4, 84, 0.85), point(14, 84, 0.97, 0.02)))
HUNDRED = RecallCurve(100, (point(8, 132, 0.9), point(4, 264, 0.98)))
CURVE = OperatingCurve("passages", 200, 0, 1, 5000, 5000, (TEN, HUNDRED))


@pytest.mark.parametrize(
    ("k", "recall", "setting"),
    [
        (10, 0.01, Setting(1, 42)),  # below all measured: the cheapest
        (10, 0.5, Setting(1, 42)),
        (10, 0.7, Setting(3, 42)),  # two thirds of the way from 1 to 4
        (10, 0.71, Setting(4, 42)),  # 3.1 lists, rounded up
        (10, 0.8, Setting(4, 42)),
        (10, 0.83, Setting(4, 84)),
        (10, 0.895, Setting(9, 84)),  # the last point assures 0.97 - 0.02
        (10, 0.95, Setting(14, 84)),
        (1, 0.8, Setting(4, 42)),  # fewer than 10 are no harder to find
        (11, 0.8, Setting(8, 132)),
        (50, 0.91, Setting(4, 264)),  # no mean of 8 and 4 lists
        (5000, 0.9, Setting(8, 132)),  # of the best 100
    ],
)
def test_the_cheapest_setting_that_assures_a_recall(k: int, recall: float, setting: Setting) -> None:
    assert CURVE.setting(k, recall) == setting


@pytest.mark.parametrize(("k", "highest"), [(10, 0.95), (100, 0.98)])
def test_a_recall_beyond_what_was_measured(k: int, highest: float) -> None:
    assert CURVE.curve_for(k).highest == highest
    CURVE.setting(k, highest)
    with pytest.raises(
        InvalidArgument, match=rf"recall is 0\.99; the highest .* is {highest} \(of the best {k}"
    ) as caught:
        CURVE.setting(k, 0.99)
    assert caught.value.field == "recall"
    assert f"at most {highest}" in caught.value.mend


@pytest.mark.parametrize("recall", [0.0, 1.0, -0.5, 7.0, float("nan"), float("inf")])
def test_what_is_no_recall(recall: float) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_recall(recall)
    assert caught.value.field == "recall"


def test_the_front() -> None:
    dear_and_worse = point(9, 42, 0.6)
    same_cost = point(2, 42, 0.7)
    uncertain = point(3, 42, 0.81, 0.2)
    tried = [(9.0, dear_and_worse), (1.0, point(1, 42, 0.5)), (2.0, same_cost), (2.0, point(1, 84, 0.6))]
    assert front([*tried, (3.0, uncertain)]) == (point(1, 42, 0.5), same_cost)


def test_points_that_hardly_differ_are_left_out() -> None:
    """Each misses a hundredth less than the one before; a third less in all."""
    misses = [0.5 * 0.99**i for i in range(41)]
    kept = front([(i, point(i + 1, 42, 1 - missed)) for i, missed in enumerate(misses)])
    assert 2 < len(kept) < 6
    assert (kept[0].nprobe, kept[-1].nprobe) == (1, 41)
