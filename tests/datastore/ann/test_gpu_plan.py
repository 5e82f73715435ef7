"""What an index takes on a GPU, worked out by hand."""

from __future__ import annotations

import pytest

from datastore.ann.gpu_plan import CODE_BYTES, TEMPORARY_BYTES, GpuPlan, build_bytes, require_memory, search_plan
from datastore.ann.spec import IndexSpec
from datastore.errors import ResourceExhausted

MILLION = 1_000_000


def plan(spec: IndexSpec, passages: int, devices: int = 1) -> GpuPlan:
    found = search_plan(spec, passages, devices)
    assert isinstance(found, GpuPlan)
    return found


def test_a_flat_index_is_its_vectors_in_float32() -> None:
    found = plan(IndexSpec("flat", 384), 100_000)
    assert found.device_bytes - TEMPORARY_BYTES == 100_000 * (384 * 4 + 4)


def test_8_bit_codes() -> None:
    """As CompactDS has them: 64 bytes, 65,536 lists, 1.9 billion passages."""
    spec = IndexSpec("ivf-pq", 768, nlist=65_536, pq_m=64)
    found = plan(spec, 1_900 * MILLION)
    assert (found.code_bytes, found.row_bytes, found.float16_tables) == (64, 4, True)
    lists = 1_900 * MILLION * 68
    centroids = 2 * 65_536 * 4 * 769
    assert found.device_bytes - TEMPORARY_BYTES == pytest.approx(lists + centroids, rel=0.001)
    on_two = plan(spec, 1_900 * MILLION, 2)
    assert on_two.device_bytes - TEMPORARY_BYTES == pytest.approx(lists / 2 + centroids, rel=0.002)
    assert plan(spec, 1 << 31).row_bytes == 8


def test_4_bit_codes_are_8_bit_ones_of_half_as_many() -> None:
    spec = IndexSpec("ivf-pq4", 256, nlist=8192, pq_m=96, copies=2, spill_weight=1.5)
    found = plan(spec, MILLION)
    assert (found.code_bytes, found.float16_tables) == (48, False)
    assert found.device_bytes - TEMPORARY_BYTES == pytest.approx(2 * MILLION * (48 + 4), rel=0.25)  # and 17 MB of lists
    longer = plan(IndexSpec("ivf-pq4", 384, nlist=8192, pq_m=144, copies=2), MILLION)
    assert (longer.code_bytes, longer.float16_tables) == (96, True)  # of 72 bytes


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (IndexSpec("ivf-pq", 768, nlist=16, pq_m=128), "no GPU kernel for codes of 128 bytes"),
        (IndexSpec("ivf-pq", 50, nlist=16, pq_m=25), "no GPU kernel for codes of 25 bytes"),
        (IndexSpec("ivf-pq4", 768, nlist=16, pq_m=288), "more than 96 bytes; these have 144"),
    ],
)
def test_what_no_kernel_takes_is_said(spec: IndexSpec, why: str) -> None:
    found = search_plan(spec, MILLION)
    assert isinstance(found, str)
    assert why in found


def test_lookup_tables_fit_what_a_block_shares() -> None:
    for length in CODE_BYTES:
        found = plan(IndexSpec("ivf-pq", 4 * length, nlist=16, pq_m=length), 1000)
        assert length * 256 * (2 if found.float16_tables else 4) <= 48 << 10


def test_a_build_needs_its_centroids() -> None:
    assert build_bytes(IndexSpec("flat", 384)) == 0
    fewer, more = (build_bytes(IndexSpec("ivf-pq4", 256, nlist=nlist, pq_m=96)) for nlist in (8192, 16_384))
    assert more - fewer == 8192 * (256 * 4 + 4)


def test_too_little_memory_says_need_and_what_is_there() -> None:
    require_memory(2 << 30, {0: 2 << 30, 1: 3 << 30}, "this")
    with pytest.raises(
        ResourceExhausted, match=r"this needs 2.50 GiB on each of 2 GPUs; cuda:3 has 2.00 GiB free"
    ) as seen:
        require_memory(5 << 29, {1: 3 << 30, 3: 2 << 30}, "this")
    assert "--device cpu" in seen.value.mend
    assert seen.value.field == "device"


def test_a_plan_describes_itself() -> None:
    assert plan(IndexSpec("flat", 256), MILLION).describe() == "float32 vectors, 2.46 GiB on one device"
    two = plan(IndexSpec("ivf-pq4", 256, nlist=8192, pq_m=96, copies=2), MILLION, 2)
    assert two.describe() == "codes of 48 bytes, 1.57 GiB on each device"
