"""Training the coarse level of an IVF index, and putting vectors into its lists.

A flat k-means compares every vector of the sample with every centroid in every round. Here the sample is split into
about sqrt(nlist) parts and each part into its share of the centroids, and a few rounds over all of them, with the index
that searches use, mend what the split did.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from datastore.ann.kinds.coarse import CoarseIndex
from datastore.ann.kinds.gpu import Gpus, device_errors
from datastore.ann.kinds.library import inner_products_by_row, k_means
from datastore.ann.kinds.probing import train_margins

Vectors = NDArray[np.float32]

_POINTS_PER_PART = 256
"""Sampled vectors for each part of the first level."""
_ROUNDS = 10
_MENDING_ROUNDS = 3
_LISTS_SUMMED = 1024
_SPILL_CANDIDATES = 16
"""Nearest lists among which a vector's second one is chosen."""


class CoarseLevel(Protocol):
    """Which lists are nearest to a vector; thread-safe."""

    centroids: Vectors
    """float32 [nlist, dimension], of length 1."""

    def search(self, vectors: Vectors, nprobe: int) -> tuple[Vectors, NDArray[np.int64]]:
        """(inner products, lists), both [n, nprobe], best first, for nprobe <= nlist."""
        ...


def train_coarse(sample: Vectors, nlist: int, seed: int, gpus: Gpus | None = None) -> CoarseIndex:
    """`nlist` unit centroids for vectors like float32 [n, dimension], n >= nlist; the same seed gives the same ones.

    On `gpus` the nearest centroids are found exactly, so theirs differ a little from those of the CPU.
    """
    part_count = min(nlist, max(1, 1 << round(np.log2(nlist) / 2)))
    few = np.sort(np.random.default_rng(seed).permutation(len(sample))[: part_count * _POINTS_PER_PART])
    parts = _k_means(sample[few], part_count, seed, gpus)
    home = _nearest(parts, sample, seed, gpus)
    shares = _share_out(np.bincount(home, minlength=part_count), nlist)
    centroids = np.concatenate(
        [_k_means(sample[home == part], int(shares[part]), seed, gpus) for part in np.flatnonzero(shares)]
    )
    for _ in range(_MENDING_ROUNDS):
        centroids = _unit(_sums(sample, _nearest(centroids, sample, seed, gpus), centroids))
    return CoarseIndex(centroids, seed, margins=train_margins(centroids, sample, seed))


def _k_means(vectors: Vectors, count: int, seed: int, gpus: Gpus | None) -> Vectors:
    if gpus is None:
        return k_means(vectors, count, _ROUNDS, seed)
    with device_errors():
        return k_means(vectors, count, _ROUNDS, seed, gpus.flat(vectors.shape[1]))


def _nearest(centroids: Vectors, vectors: Vectors, seed: int, gpus: Gpus | None) -> NDArray[np.int64]:
    coarse: CoarseLevel = CoarseIndex(centroids, seed) if gpus is None else gpus.coarse(centroids)
    return coarse.search(vectors, 1)[1][:, 0]


def assign(coarse: CoarseLevel, vectors: Vectors, copies: int, spill_weight: float) -> NDArray[np.int64]:
    """The lists of each of float32 [n, dimension]: int64 [n, copies], for one copy or two.

    The first is the nearest centroid's. The second is one that is likely to be probed when the first is not: its
    centroid c' minimizes |x - c'|^2 + spill_weight * <r, x - c'>^2 / |r|^2, where r is the residual to the first, since
    a query that the first centroid misleads does so along r. Where there is but one list, both are that.
    Sun, Simcha, Dopson, Guo, Kumar: SOAR, Improved Indexing for Approximate Nearest Neighbor Search, NeurIPS 2023.
    """
    near = min(_SPILL_CANDIDATES, len(coarse.centroids)) if copies == 2 else 1
    products, lists = coarse.search(vectors, near)
    if copies == 1:
        return lists
    residuals = vectors - coarse.centroids[lists[:, 0]]
    lengths = np.maximum(np.einsum("ij,ij->i", residuals, residuals), 1e-12)[:, None]
    # <r, x - c'> for every candidate c'
    along = np.einsum("ij,ij->i", residuals, vectors)[:, None]
    along = along - inner_products_by_row(residuals, coarse.centroids, lists)
    loss = -2 * products + spill_weight * along**2 / lengths
    if near > 1:
        loss[:, 0] = np.inf
    second = np.take_along_axis(lists, loss.argmin(axis=1)[:, None], axis=1)
    both: NDArray[np.int64] = np.concatenate([lists[:, :1], second], axis=1)
    return both


def _share_out(counts: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """`total` <= sum of `counts`, shared out in proportion to them, none above its count; largest remainders first."""
    wanted = counts * (total / counts.sum())
    shares: NDArray[np.int64] = np.minimum(np.floor(wanted).astype(np.int64), counts)
    while (missing := total - int(shares.sum())) > 0:
        open_to = np.flatnonzero(shares < counts)
        best = open_to[np.argsort((shares - wanted)[open_to], kind="stable")[:missing]]
        shares[best] += 1
    return shares


def _sums(sample: Vectors, lists: NDArray[np.int64], centroids: Vectors) -> Vectors:
    """The sum of each list's vectors; the centroid of a list without any."""
    counts = np.bincount(lists, minlength=len(centroids))
    filled = np.flatnonzero(counts)
    starts = (np.cumsum(counts) - counts)[filled]
    order = np.argsort(lists, kind="stable")
    sums = centroids.copy()
    for first in range(0, len(filled), _LISTS_SUMMED):  # a copy of the sorted sample would be as large as the sample
        some = starts[first : first + _LISTS_SUMMED]
        end = some[-1] + counts[filled[first : first + _LISTS_SUMMED][-1]]
        sums[filled[first : first + _LISTS_SUMMED]] = np.add.reduceat(
            sample[order[some[0] : end]], some - some[0], axis=0
        )
    return sums


def _unit(vectors: Vectors) -> Vectors:
    unit: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
