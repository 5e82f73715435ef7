"""Lists that hold what a filter leaves: counted, and as many as a query needs, against the lists' own files."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from datastore.ann.index import Cover, CoveringIndex, candidates, compact_quantizer
from datastore.ann.kinds.coarse import CoarseIndex
from datastore.ann.kinds.covering import covering_lists
from tests.datastore.ann.conftest import Built


def region(vectors: NDArray[np.float32], share: float) -> NDArray[np.bool_]:
    """The passages least like the first."""
    mask = np.zeros(len(vectors), bool)
    mask[np.argsort(vectors @ vectors[0], kind="stable")[: int(share * len(vectors))]] = True
    return mask


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
def test_covering_finds_a_region_that_the_nearest_lists_miss(
    built: Built, vectors: NDArray[np.float32], share: float
) -> None:
    mask = region(vectors, share)
    accept = np.packbits(mask, bitorder="little")
    rows = np.flatnonzero(mask)
    queries = vectors[np.argsort(-(vectors @ vectors[0]), kind="stable")[:20]]
    kth = np.sort(queries @ vectors[rows].T, axis=1)[:, -10]
    depth = 500 if built.spec.bits == 1 else 150  # signs of 32 values say little; the lists are what is tried here
    for index in (built.whole, built.parts):
        if not isinstance(index, CoveringIndex):
            continue
        in_lists = index.count_in_lists(accept)
        assert in_lists.sum() == built.spec.copies * mask.sum()
        found = candidates(index, queries, depth, 0, Cover(accept, in_lists, int(in_lists.sum())))
        assert all(mask[mine].all() and len(np.unique(mine)) == len(mine) for mine in found)
        shares = [
            (vectors[mine] @ query >= cut - 1e-6).sum() / 10
            for mine, query, cut in zip(found, queries, kth, strict=True)
        ]
        assert np.mean(shares) >= 0.95
        np.testing.assert_array_equal(in_lists, built.whole.count_in_lists(accept))  # type: ignore[attr-defined]


def test_counts_are_those_of_searches_in_one_list(built: Built, vectors: NDArray[np.float32]) -> None:
    if not isinstance(built.whole, CoveringIndex):
        pytest.skip("this kind has no counts")
    mask = np.random.default_rng(0).random(len(vectors)) < 0.2
    accept = np.packbits(mask, bitorder="little")
    in_lists = built.whole.count_in_lists(accept)
    everything = candidates(built.whole, vectors[:1], len(vectors), 0, Cover(accept, in_lists, int(in_lists.sum())))[0]
    np.testing.assert_array_equal(everything, np.flatnonzero(mask))
    nothing = np.zeros_like(accept)
    none = Cover(nothing, built.whole.count_in_lists(nothing), 100)
    assert len(candidates(built.whole, vectors[:1], 10, 0, none)[0]) == 0


@pytest.mark.parametrize("nlist", [40, 1500])
def test_lists_of_a_query_are_its_nearest_that_hold_enough(nlist: int) -> None:
    random = np.random.default_rng(1)
    centroids = random.standard_normal((nlist, 32)).astype(np.float32)
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    in_lists = np.where(random.random(nlist) < 0.1, random.integers(1, 9, nlist), 0).astype(np.int32)
    queries = random.standard_normal((5, 32)).astype(np.float32)
    wanted = int(in_lists.sum()) // 2
    products, lists = covering_lists(CoarseIndex(centroids, 0), queries, Cover(np.zeros(1, np.uint8), in_lists, wanted))
    assert products.shape == lists.shape
    for query, mine in zip(queries, lists, strict=True):
        own = mine[mine >= 0]
        held = in_lists[own]
        assert held.min() > 0
        assert held[:-1].sum() < wanted <= held.sum()
        exact = np.argsort(-(centroids @ query))
        nearest = exact[in_lists[exact] > 0][: len(own)]
        assert len(np.intersect1d(own, nearest)) >= 0.9 * len(own)


def test_codes_of_a_few_vectors_find_their_nearest(vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> None:
    quantizer = compact_quantizer(vectors[:500])
    assert quantizer is not None
    few = vectors[::3]
    codes = quantizer.encode([few[:300], few[300:]])
    found = codes.search(queries, 60)
    truth = np.argsort(-(queries @ few.T), axis=1)[:, :10]
    assert np.mean([np.isin(best, mine).mean() for best, mine in zip(truth, found, strict=True)]) >= 0.97
    assert codes.nbytes < few.nbytes / 8
    assert compact_quantizer(vectors[:50, :30]) is None
    tiny = compact_quantizer(vectors[:3])
    assert tiny is not None
    assert sorted(tiny.encode([vectors[:3]]).search(vectors[:1], 3)[0].tolist()) == [0, 1, 2]
