"""How many lists a query probes: more where many centroids are about as near as the nearest, fewer where few are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NEAR = 3
"""The centroid whose product with the query the others' are measured against: the very nearest says less."""
_REACH = 1.5
"""Of the lists asked for, so many times are looked at."""
_SAMPLED = 512
_BLOCK = 64


class Probing:
    """The number of probes asked for, spread over queries by how their centroids' products fall.

    A list is probed if its centroid's product is at most a margin below that of the third best centroid. Margins are of
    a sample of vectors taken for queries: with the margin of p, p lists are probed on average of it.

    Args:
        margins: float32, one for each of `ranks(nlist)`, ascending.
    """

    def __init__(self, margins: NDArray[np.float32], nlist: int) -> None:
        self.margins = margins
        self._nlist = nlist
        self._log_ranks = np.log2(ranks(nlist))
        self._known: dict[int, np.float32] = {}

    def looked_at(self, nprobe: int) -> int:
        """Lists from which `chosen` takes its own."""
        return min(self._nlist, round(_REACH * nprobe) if nprobe >= _NEAR else nprobe)

    def chosen(
        self, products: NDArray[np.float32], lists: NDArray[np.int64], nprobe: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Of (products, lists), both [n, looked_at], best first, those to probe: -1 stands for none, at the ends."""
        if not _NEAR <= nprobe < self._nlist:
            return products, lists
        if len(products) == 1:  # the same in a few calls: they are what one query waits for
            most = int(np.count_nonzero(products[0] >= products[0, _NEAR - 1] - self._margin(nprobe)))
            return products[:, :most], lists[:, :most]
        probed = products >= products[:, _NEAR - 1 : _NEAR] - self._margin(nprobe)
        most = int(np.count_nonzero(probed, axis=1).max())
        return np.ascontiguousarray(products[:, :most]), np.where(probed[:, :most], lists[:, :most], -1)

    def _margin(self, nprobe: int) -> np.float32:
        if nprobe not in self._known:
            self._known[nprobe] = np.float32(np.interp(np.log2(nprobe), self._log_ranks, self.margins))
        return self._known[nprobe]


def train_margins(centroids: NDArray[np.float32], sample: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Of float32 [nlist, d] and [n, d], of which some are taken: float32, one for each of `ranks(nlist)`."""
    nlist = len(centroids)
    chosen = sample[np.sort(np.random.default_rng(seed).permutation(len(sample))[:_SAMPLED])]
    shares, near = ranks(nlist) / nlist, min(_NEAR, nlist)
    margins = []
    for start in range(0, len(chosen), _BLOCK):
        products = chosen[start : start + _BLOCK] @ centroids.T
        best = np.partition(products, nlist - near, axis=1)[:, nlist - near]
        margins.append(np.quantile(best[:, None] - products, shares))
    mean: NDArray[np.float32] = np.mean(margins, axis=0).astype(np.float32)
    return mean


def ranks(nlist: int) -> NDArray[np.float64]:
    """Those that have a margin."""
    wanted: NDArray[np.float64] = np.minimum(2.0 ** np.arange(1 + int(np.ceil(np.log2(nlist)))), nlist)
    return wanted
