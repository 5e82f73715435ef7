"""Codes of a few passages, in one piece: what a filter leaves, when many queries ask for it.

Lists serve a search of everything; of one passage in a hundred they would be opened for two codes each. Such passages
are compared faster one after the other, by 4-bit codes of two dimensions in registers (André, Kermarrec, Le Scouarnec:
Quicker ADC, 2018), and so none is missed for the list that it lies in.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from datastore.ann.kinds.library import CODEBOOK, faiss, train_codebooks, use_threads

Vectors = NDArray[np.float32]


class CompactQuantizer:
    """Codebooks for vectors like the sample, float32 [n, dimension]; the same sample gives the same ones."""

    def __init__(self, sample: Vectors) -> None:
        use_threads(1)
        few = len(sample) < CODEBOOK  # the quantizer wants a vector for each of its centroids
        points = np.concatenate([sample] * (CODEBOOK // max(len(sample), 1) + 1)) if few else sample
        self._dimension = sample.shape[1]
        self._codebooks = train_codebooks(np.ascontiguousarray(points), self._dimension // 2, seed=0)

    @staticmethod
    def fits(dimension: int) -> bool:
        """Whether vectors of this dimension can be so encoded."""
        return dimension % 4 == 0

    def encode(self, blocks: Iterable[Vectors]) -> CompactCodes:
        """The codes of float32 [n, dimension], block after block: dimension / 4 bytes each."""
        use_threads(1)
        codes = faiss.IndexPQFastScan(self._dimension, self._dimension // 2, 4, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(self._codebooks.reshape(-1), codes.pq.centroids)
        codes.is_trained = True
        for block in blocks:
            codes.add(np.ascontiguousarray(block))
        return CompactCodes(codes)


class CompactCodes:
    """Encoded vectors, by position; thread-safe."""

    def __init__(self, codes: faiss.IndexPQFastScan) -> None:
        self._codes = codes
        self.nbytes = int(codes.codes.size())

    def search(self, queries: Vectors, depth: int) -> NDArray[np.int64]:
        """Positions, int64 [n, depth], of the best by their codes; depth is at most the number of vectors."""
        use_threads(1)
        _, positions = self._codes.search(np.ascontiguousarray(queries), depth)
        found: NDArray[np.int64] = positions
        return found
