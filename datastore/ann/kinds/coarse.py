"""The coarse level of an IVF index: which lists are nearest to a vector."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from datastore.ann.kinds.library import CODEBOOK, faiss, pointer, train_codebooks

FLAT_MAX_LISTS = 1024
"""Up to here all centroids are compared with the vector itself."""
_REFINED = 2.0
"""Of so many times the lists wanted, found by 4-bit codes, the exact products decide: 98.5% of them are the nearest."""
_LEAST = 8
"""Lists looked for at least, as the nearest few are to be found for certain."""


class CoarseIndex:
    """The nearest of unit centroids float32 [nlist, dimension], by inner product; thread-safe.

    Many centroids are first compared by 4-bit codes of two dimensions each, in registers (André, Kermarrec, Le
    Scouarnec: Quicker ADC, 2018), of which the best are compared exactly.

    Args:
        codebooks: of those codes, from an earlier instance's `codebooks`; None trains them.
    """

    def __init__(self, centroids: NDArray[np.float32], seed: int, codebooks: NDArray[np.float32] | None = None) -> None:
        self.centroids = np.ascontiguousarray(centroids, np.float32)
        nlist, dimension = self.centroids.shape
        if nlist <= FLAT_MAX_LISTS or dimension % 4:
            self._index = faiss.IndexFlatIP(dimension)
            self._index.add(self.centroids)
            self.codebooks = np.empty((0, CODEBOOK, 2), np.float32)
            return
        self.codebooks = train_codebooks(self.centroids, dimension // 2, seed) if codebooks is None else codebooks
        self._codes = faiss.IndexPQFastScan(dimension, dimension // 2, 4, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(self.codebooks.reshape(-1), self._codes.pq.centroids)
        self._codes.is_trained = True
        self._codes.add(self.centroids)
        self._index = faiss.IndexRefineFlat(self._codes, pointer(self.centroids))
        # One copy of the centroids is enough: the index's own.
        stored = faiss.downcast_index(self._index.refine_index).get_xb()
        self.centroids = faiss.rev_swig_ptr(stored, nlist * dimension).reshape(nlist, dimension)
        self._index.k_factor = _REFINED

    @property
    def exact(self) -> Any:
        """FAISS's index of the centroids themselves, which this one owns."""
        return self._index if len(self.codebooks) == 0 else faiss.downcast_index(self._index.refine_index)

    def search(self, vectors: NDArray[np.float32], nprobe: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(inner products, lists), both [n, nprobe], best first, for nprobe <= nlist."""
        wanted = min(max(nprobe, _LEAST), len(self.centroids))
        products, lists = self._index.search(vectors, wanted)
        return np.ascontiguousarray(products[:, :nprobe]), np.ascontiguousarray(lists[:, :nprobe])
