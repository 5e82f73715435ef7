"""What an open index takes, against what it does take; and what is chosen for a budget."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore.ann.memory import index_bytes
from datastore.ann.spec import FLAT_MAX_PASSAGES, IndexSpec, choose_index
from datastore.config import IndexConfig, load_config

if TYPE_CHECKING:
    from tests.datastore.ann.conftest import Built

MILLION = 10**6


def test_bytes_are_those_of_the_lists(built: Built) -> None:
    """Of what FAISS holds; the template beside it is arrays of known sizes."""
    index: Any = built.whole
    passages = len(built.vectors)
    if built.spec.kind in ("flat", "ivf-pq"):
        pytest.skip("its codes lie end to end")
    template = index_bytes(built.spec, passages) - index_bytes(built.spec, 0)
    filled_up = 16 * 15.5 * (built.spec.code_bytes + 8)
    assert template + filled_up == pytest.approx(index._lists.totsize, rel=0.05)


@pytest.mark.parametrize(
    ("spec", "passages", "size"),
    [
        (IndexSpec("flat", 384), 1000, 768_000),
        (IndexSpec("ivf-pq", 384, nlist=4096, pq_m=64), MILLION, 4096 * 1536 + 256 * 1536 + 72 * MILLION),
        # a centroid of 1,024 bytes and its code of 64, the rotation twice; 2,126,976 codes of 48 bytes with their rows
        (
            IndexSpec("ivf-pq4", 256, nlist=8192, pq_m=96, copies=2),
            MILLION,
            8192 * (1024 + 64) + 2 * 4 * 192 * 256 + 2_126_976 * 56,
        ),
        (
            IndexSpec("ivf-rabitq", 256, nlist=8192, bits=1, copies=2),
            MILLION,
            8192 * (1024 + 64) + 2 * 4 * 256 * 256 + 2_126_976 * 48,
        ),
    ],
)
def test_arithmetic(spec: IndexSpec, passages: int, size: int) -> None:
    assert index_bytes(spec, passages) == size


def chosen(passages: int, dimension: int, **settings: Any) -> IndexSpec:
    return choose_index(IndexConfig(**settings), passages, dimension)


def test_without_a_budget_nothing_is_said_of_it() -> None:
    assert "memory" not in chosen(MILLION, 256).reason


def test_shorter_codes_then_one_copy_then_the_least() -> None:
    best = chosen(MILLION, 256, memory=1 << 30)
    assert (best.kind, best.copies, best.pq_m, best.spill_weight) == ("ivf-pq4", 2, 96, 1.5)
    assert "within index.memory, 1.0 GiB" in best.reason
    spec, seen = best, []
    while "nothing takes less" not in spec.reason:
        seen.append((spec.copies, spec.pq_m, spec.spill_weight))
        spec = chosen(MILLION, 256, memory=index_bytes(spec, MILLION) - 1)
    assert seen == [(2, 96, 1.5), (2, 80, 1.5), (2, 64, 1.5), (1, 96, 0.0), (1, 80, 0.0), (1, 64, 0.0)]
    assert spec == replace(chosen(MILLION, 256, memory=1), reason=spec.reason)
    shorter = chosen(MILLION, 256, memory=index_bytes(best, MILLION) - 1).reason
    assert "1000000 passages are more than 131072" in shorter
    assert "48 bytes a code, each passage in 2 lists) takes 122.5 MiB, more than index.memory, 122.5" in shorter
    assert "this takes" in shorter


def test_few_passages_are_scanned_whole_if_they_fit() -> None:
    flat = chosen(100_000, 384, memory=80_000_000)
    assert flat.kind == "flat"
    lists = chosen(100_000, 384, memory=70_000_000)
    assert (lists.kind, lists.copies) == ("ivf-pq4", 2)
    assert "100000 passages" in lists.reason
    assert "flat takes 73.2 MiB, more than index.memory, 66.8 MiB" in lists.reason
    assert chosen(255, 384, memory=1).kind == "flat"


def test_what_is_set_stays() -> None:
    twice = chosen(MILLION, 256, copies=2, pq_m=96, memory=100_000_000)
    assert (twice.copies, twice.pq_m) == (2, 96)
    assert "more than index.memory" in twice.reason
    assert chosen(MILLION, 256, kind="flat", memory=1000).kind == "flat"
    asked = chosen(MILLION, 256, kind="ivf-rabitq", memory=100_000_000)
    assert (asked.kind, asked.copies, asked.bits) == ("ivf-rabitq", 1, 1)
    assert asked.reason.startswith("asked for; ivf-rabitq")


@given(
    passages=st.integers(1, 10**8),
    dimension=st.integers(1, 4096),
    memories=st.tuples(st.integers(1, 10**12), st.integers(1, 10**12)),
)
def test_more_memory_is_never_used_for_less(passages: int, dimension: int, memories: tuple[int, int]) -> None:
    least = index_bytes(chosen(passages, dimension, memory=1), passages)
    taken = []
    for memory in sorted(memories):
        spec = chosen(passages, dimension, memory=memory)
        taken.append(index_bytes(spec, passages))
        assert taken[-1] <= max(memory, least)
    if passages > FLAT_MAX_PASSAGES:
        assert taken == sorted(taken)


@pytest.mark.parametrize(("text", "size"), [("2GiB", 2 << 30), ("1.5G", 3 << 29), (12345, 12345), ("2 GB", 2 * 10**9)])
def test_a_size_in_the_config(text: str | int, size: int) -> None:
    assert load_config(None, {"index": {"memory": text}}).index.memory == size
