"""The coarse level of an IVF index: which lists are nearest to a vector."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from datastore.ann.kinds.library import CODEBOOK, faiss, pointer, train_codebooks
from datastore.ann.kinds.probing import Probing

FLAT_MAX_LISTS = 1024
"""Up to here all centroids are compared with the vector itself."""
_LEAST_REFINED = 16
_MORE_REFINED = 32
"""Lists found by 4-bit codes, of which the exact products decide: twice as many as wanted up to 32 more, then a fifth
more besides, as the choice matters less the farther they are. 98% of 40 lists are the nearest, and 92% of 300."""


class CoarseIndex:
    """The nearest of unit centroids float32 [nlist, dimension], by inner product; thread-safe.

    Many centroids are first compared by 4-bit codes of two dimensions each, in registers (André, Kermarrec, Le
    Scouarnec: Quicker ADC, 2018), of which the best are compared exactly.

    Args:
        codebooks: of those codes, from an earlier instance's `codebooks`; None trains them.
        margins: by which probes are spread over queries (see `Probing`); None gives every query as many.
    """

    def __init__(
        self,
        centroids: NDArray[np.float32],
        seed: int,
        codebooks: NDArray[np.float32] | None = None,
        margins: NDArray[np.float32] | None = None,
    ) -> None:
        self._probing = None if margins is None else Probing(margins, len(centroids))
        self.margins = np.empty(0, np.float32) if margins is None else margins
        self.centroids = np.ascontiguousarray(centroids, np.float32)
        nlist, dimension = self.centroids.shape
        self._known: dict[float, Any] = {}
        if nlist <= FLAT_MAX_LISTS or dimension % 4:
            self._index = faiss.IndexFlatIP(dimension)
            self._index.add(self.centroids)
            self._refined = False
            self.codebooks = np.empty((0, CODEBOOK, 2), np.float32)
            return
        self.codebooks = train_codebooks(self.centroids, dimension // 2, seed) if codebooks is None else codebooks
        self._codes = faiss.IndexPQFastScan(dimension, dimension // 2, 4, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(self.codebooks.reshape(-1), self._codes.pq.centroids)
        self._codes.is_trained = True
        self._codes.add(self.centroids)
        self._refined = True
        self._index = faiss.IndexRefineFlat(self._codes, pointer(self.centroids))
        # One copy of the centroids is enough: the index's own.
        stored = faiss.downcast_index(self._index.refine_index).get_xb()
        self.centroids = faiss.rev_swig_ptr(stored, nlist * dimension).reshape(nlist, dimension)

    def probes(self, queries: NDArray[np.float32], nprobe: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(inner products, lists), both [n, some], best first: about `nprobe` for each query, then -1."""
        if self._probing is None:
            return self.search(queries, nprobe)
        return self._probing.chosen(*self.search(queries, self._probing.looked_at(nprobe)), nprobe)

    @property
    def exact(self) -> Any:
        """FAISS's index of the centroids themselves, which this one owns."""
        return self._index if len(self.codebooks) == 0 else faiss.downcast_index(self._index.refine_index)

    def search(self, vectors: NDArray[np.float32], nprobe: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(inner products, lists), both [n, nprobe], best first, for nprobe <= nlist."""
        vectors = np.ascontiguousarray(vectors, np.float32)
        found = min(max(_LEAST_REFINED, min(2 * nprobe, nprobe + nprobe // 5 + _MORE_REFINED)), len(self.centroids))
        products = np.empty((len(vectors), nprobe), np.float32)
        lists = np.empty((len(vectors), nprobe), np.int64)
        # The wrapper of this call allocates and checks for longer than one query takes.
        self._index.search_c(
            len(vectors), pointer(vectors), nprobe, pointer(products), pointer(lists), self._refining(found / nprobe)
        )
        return products, lists

    def _refining(self, factor: float) -> Any:
        if not self._refined:
            return None
        if factor not in self._known:  # making one takes some microseconds
            self._known[factor] = faiss.IndexRefineSearchParameters(k_factor=factor)
        return self._known[factor]
