"""What holds of every plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from datastore.ann.spec import choose_index
from datastore.config import IndexConfig, SegmentConfig, segment_limit
from datastore.errors import InvalidArgument
from datastore.plan.calibration import Measured, OperatingPoint, calibration
from datastore.plan.constants import Constants
from datastore.plan.request import PlanRequest
from datastore.plan.results import Plan, ShapePlan
from datastore.plan.shape import MAX_SHARD_PASSAGES, segments_of_a_build

Shape = Callable[..., ShapePlan]
SIZES = [1, 1000, 131_072, 131_073, 10**6, 10**7, 10**8, 10**9, 4 * 10**9, 10**11]
GIB = 2**30


@pytest.mark.parametrize("passages", SIZES)
@pytest.mark.parametrize("dimension", [64, 384, 1024])
def test_every_shard_fits_its_machine(plan_for: Callable[..., Plan], passages: int, dimension: int) -> None:
    for shape in plan_for(passages=passages, dimension=dimension).shapes:
        machine = shape.machine
        assert shape.serving_bytes <= 0.9 * machine.ram_bytes
        assert shape.disk_bytes <= 0.9 * machine.disk_bytes * shape.shards
        assert shape.gpu_bytes <= machine.gpu_bytes
        assert passages <= shape.shards * MAX_SHARD_PASSAGES
        assert shape.segments.total >= shape.segments.a_shard
        assert shape.search.warm_ms > 0
        assert shape.search.cold_ms >= shape.search.warm_ms
        assert 0 <= shape.search.vectors_cached_share <= 1
        assert shape.build_hours.total > 0
        assert shape.build_elapsed_hours <= shape.build_hours.total
        assert shape.index_memory_bytes == sum(shape.index_memory.values())


@pytest.mark.parametrize("passages", SIZES)
def test_the_index_is_what_a_build_chooses(on_cpu: Shape, passages: int) -> None:
    assert on_cpu(passages=passages, dimension=768).index == choose_index(IndexConfig(), passages, 768)


def test_more_passages_never_need_less(on_cpu: Shape) -> None:
    shapes = [on_cpu(passages=passages, dimension=768) for passages in SIZES]
    for small, large in pairwise(shapes):
        assert small.shards <= large.shards
        assert small.disk_bytes < large.disk_bytes
        assert small.build_hours.total < large.build_hours.total
        assert small.cost.serving_month <= large.cost.serving_month


def test_recall_costs_time(on_cpu: Shape) -> None:
    shapes = [on_cpu(passages=10**7, recall=recall) for recall in (0.9, 0.95, 0.98, 0.99)]
    assert all(low.search.warm_ms < high.search.warm_ms for low, high in pairwise(shapes))
    assert all(
        low.search.queries_per_second_with_encoding > high.search.queries_per_second_with_encoding
        for low, high in pairwise(shapes)
    )


def test_less_memory_makes_more_shards_and_says_so(on_cpu: Shape) -> None:
    large = on_cpu(passages=10**9, dimension=768)
    small = on_cpu(passages=10**9, dimension=768, given={"cpu_ram": 64 * GIB})
    assert small.shards > large.shards
    assert small.shards_bound_by == "memory"
    assert small.search.codes_read < large.search.codes_read
    assert small.index_memory_bytes < large.index_memory_bytes


def test_a_shard_never_has_more_passages_than_lucene_numbers(on_cpu: Shape) -> None:
    shape = on_cpu(passages=5 * 10**9, dimension=64, given={"cpu_ram": 1 << 50, "cpu_disk": 1e18})
    assert (shape.shards, shape.shards_bound_by) == (3, "passages a process")


def test_a_machine_that_cannot_hold_what_every_shard_has_is_refused(on_cpu: Shape) -> None:
    with pytest.raises(InvalidArgument, match="up to 100,000 holds this: each has too little"):
        on_cpu(passages=10**10, dimension=1024, given={"cpu_ram": 2 * GIB})


def test_replicas_answer_the_queries_aimed_at(on_cpu: Shape) -> None:
    one = on_cpu(passages=10**7)
    rate = one.search.queries_per_second_with_encoding
    many = on_cpu(passages=10**7, queries_per_second=2.5 * rate)
    assert (one.replicas, many.replicas) == (1, 3)
    assert many.cost.serving_month == pytest.approx(3 * one.cost.serving_month)


def test_prices_are_what_options_say(on_cpu: Shape) -> None:
    shape = on_cpu(passages=10**7, given={"cpu_price": 10.0})
    assert shape.cost.serving_month == pytest.approx(10 * 730)
    assert shape.cost.build == pytest.approx(10 * shape.build_hours.total)


def test_a_faster_core_is_faster_in_everything_of_the_cpu(on_cpu: Shape) -> None:
    slow, fast = on_cpu(passages=10**7), on_cpu(passages=10**7, given={"core_speed": 2})
    assert fast.search.warm_ms == pytest.approx(slow.search.warm_ms / 2)
    assert fast.build_hours.total == pytest.approx(slow.build_hours.total / 2)


def test_encoding_is_counted_in_operations(on_cpu: Shape) -> None:
    small = on_cpu(passages=10**6, encoder_parameters=10e6)
    large = on_cpu(passages=10**6, encoder_parameters=20e6)
    assert large.build_hours.encoding == pytest.approx(2 * small.build_hours.encoding)
    assert large.build_hours.indexing == small.build_hours.indexing
    # 22 passages of 212 tokens a second of one core is what the constant comes from
    measured = on_cpu(passages=22 * 3600, tokens_per_passage=212, given={"cpu_vcpus": 2})
    assert measured.build_hours.encoding == pytest.approx(1, rel=0.02)


def test_gpus_search_codes_that_they_take(on_gpu: Shape) -> None:
    eight_bits = on_gpu(passages=10**9, dimension=768)
    assert (eight_bits.search.on, eight_bits.index.kind, eight_bits.index.pq_m) == ("gpu", "ivf-pq", 96)
    as_built = on_gpu(passages=10**7, dimension=256)
    assert (as_built.search.on, as_built.index.kind) == ("gpu", "ivf-pq4")
    asked = on_gpu(passages=10**8, dimension=768, index={"kind": "ivf-pq4"})
    assert (asked.search.on, asked.gpu_bytes) == ("cpu", 0)
    assert any("searched on the CPU" in warning for warning in asked.warnings)


@pytest.mark.parametrize(("passages", "total"), [(1, 1), (1024, 1), (1025, 2), (10_000, None), (5 * 10**6, None)])
def test_segments_are_those_of_a_build(passages: int, total: int | None) -> None:
    done = count = 0
    while done < passages:
        done, count = done + segment_limit(SegmentConfig(), done), count + 1
    assert segments_of_a_build(passages) == count
    assert total in {count, None}


def test_warnings(plan_for: Callable[..., Plan]) -> None:
    plan = plan_for(tokens=1_400_000_000_000, dimension=768)
    said = " ".join([*plan.warnings, *plan.shapes[0].warnings, *plan.shapes[1].warnings])
    for wanted in (
        "times the largest size measured",
        "passages are counted as full",
        "--segment-passages",
        "days on",
        "nothing of a search on GPUs was measured",
    ):
        assert wanted in said
    flat = plan_for(passages=10**6, index={"kind": "flat"}).shapes[0]
    assert any("flat scans all 1,000,000 passages" in warning for warning in flat.warnings)
    starved = plan_for(passages=10**9, dimension=1024, given={"cpu_ram": 48 * GIB}).shapes[0]
    assert any("building takes" in warning for warning in starved.warnings)


def test_only_the_constants_that_were_used_are_shown(plan_for: Callable[..., Plan]) -> None:
    names = {one.name for one in plan_for(passages=1000).assumptions}
    assert "flat_core_bytes" in names
    assert "gpu_scan_share" not in names


def test_every_constant_says_where_it_comes_from() -> None:
    for constant in Constants().all():
        assert constant.basis in {"measured", "published", "assumed"}
        assert constant.unit
        assert constant.source
        assert constant.value > 0


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ({}, "neither of tokens and passages"),
        ({"tokens": 1, "passages": 1}, "both of tokens and passages"),
        ({"passages": 1, "dimension": 0}, "dim is 0"),
        ({"passages": 1, "recall": 1.5}, "recall is 1.5"),
        ({"passages": 1, "recall": float("nan")}, "recall is nan"),
        ({"passages": 1, "chunk_words": 0}, "chunk_words is 0"),
        ({"passages": 1, "queries_per_second": -1}, "qps is -1"),
    ],
)
def test_what_is_out_of_bounds_is_refused(request_: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        PlanRequest(**request_)


def test_a_recall_that_was_never_reached_is_refused(on_cpu: Shape) -> None:
    with pytest.raises(InvalidArgument, match=r"recall is 0\.9999; measured was up to 0\.99"):
        on_cpu(passages=10**7, recall=0.9999)


def test_two_collections_of_one_size_are_met_halfway() -> None:
    def measured(passages: int, nprobe: float) -> Measured:
        points = (OperatingPoint(0.9, nprobe, 30.0), OperatingPoint(0.99, 4 * nprobe, 30.0))
        return Measured("a file", passages, 1024, points)

    cost = next(iter(calibration().kinds.values()))
    alike = replace(cost, measured=(measured(1000, 10.0), measured(1000, 40.0)))
    assert alike.operating_point(0.9, 5000).nprobe == pytest.approx(20.0)
    larger = replace(cost, measured=(*alike.measured, measured(4000, 80.0)))
    assert larger.operating_point(0.9, 2000).nprobe == pytest.approx(40.0)
