"""The planner against figures that others published."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from datastore.plan.results import ShapePlan

GIB = 2**30


@pytest.mark.parametrize(("pq_m", "published"), [(64, 125), (256, 456)])
def test_compactds(on_cpu: Callable[..., ShapePlan], pq_m: int, published: float) -> None:
    """CompactDS (2025): 1.9B passages, Contriever, FAISS IVF65536 with 8-bit PQ. Both published sizes come out 2 to 3%
    higher, as GiB: the published "GB" are that, and "1.9B" is rounded up."""
    shape = on_cpu(passages=1_900_000_000, dimension=768, index={"kind": "ivf-pq", "nlist": 65536, "pq_m": pq_m})
    assert shape.index.code_bytes == pq_m
    assert shape.index_memory_bytes_all_shards / GIB == pytest.approx(published, rel=0.04)


def test_the_vectors_of_massiveds(on_cpu: Callable[..., ShapePlan]) -> None:
    """1.4T tokens in passages of 256 words are some 4.1B vectors, of 6.3 TB as float16 at 768 dimensions."""
    shape = on_cpu(tokens=1_400_000_000_000, dimension=768)
    assert shape.disk["exact vectors"] == pytest.approx(6.3e12, rel=0.01)
