"""Flat: every exact vector is scanned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from datastore.ann.kinds.gpu import Gpus
from datastore.ann.kinds.library import accepted_part, faiss, selector, use_threads
from datastore.ann.kinds.on_gpus import load_flat, place
from datastore.ann.spec import IndexSpec

if TYPE_CHECKING:
    from datastore.ann.index import AnnIndex
    from datastore.store.vectors import VectorFile


class FlatIndex:
    """All vectors of some segments as float16 in memory, scanned whole."""

    def __init__(self, spec: IndexSpec, vectors: Sequence[VectorFile], first_row: int = 0) -> None:
        self._first_row = first_row
        kind = faiss.ScalarQuantizer.QT_fp16
        self._index = faiss.IndexScalarQuantizer(spec.dimension, kind, faiss.METRIC_INNER_PRODUCT)
        total = sum(file.rows for file in vectors)
        self._index.codes.resize(2 * spec.dimension * total)
        # The stored rows are the codes, byte for byte.
        codes = (
            faiss.rev_swig_ptr(self._index.codes.data(), self._index.codes.size()) if total else np.empty(0, np.uint8)
        )
        start = 0
        for file in vectors:
            file.check()
            stored = file.matrix.reshape(-1).view(np.uint8)
            codes[start : start + len(stored)] = stored
            start += len(stored)
        self._index.ntotal = total

    def search(
        self, queries: NDArray[np.float32], depth: int, nprobe: int, accept: NDArray[np.uint8] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        use_threads(1)
        accept = accepted_part(accept, self._first_row, self._index.ntotal)
        parameters = None if accept is None else faiss.SearchParameters(sel=selector(accept))
        depth = min(depth, max(1, self._index.ntotal))
        scores, rows = self._index.search(queries, depth, params=parameters)
        if self._first_row:
            rows[rows >= 0] += self._first_row
        return scores, rows


class FlatTemplate:
    """No codes of its own: the exact vectors are scanned."""

    exact = True
    joins = True

    def __init__(self, spec: IndexSpec, gpus: Gpus | None = None) -> None:
        self._spec = spec
        self._gpus = gpus

    @classmethod
    def load(cls, spec: IndexSpec, path: Path | None, gpus: Gpus | None = None) -> FlatTemplate:
        return cls(spec, gpus)

    @classmethod
    def train(cls, spec: IndexSpec, sample: NDArray[np.float32], gpus: Gpus | None = None) -> FlatTemplate:
        return cls(spec, gpus)

    def save(self, path: Path) -> bool:
        return False

    def write_segment(self, vectors: Iterable[NDArray[np.float16]], path: Path) -> bool:
        return False

    def write_merged(self, paths: Sequence[Path], passages: Sequence[int], rows: NDArray[np.int64], path: Path) -> bool:
        return False

    def open(self, paths: Sequence[Path], vectors: Sequence[VectorFile], first_row: int = 0) -> AnnIndex:
        return place(
            self._gpus if first_row == 0 else None,
            self._spec,
            sum(file.rows for file in vectors),
            FlatIndex(self._spec, vectors, first_row),
            lambda gpus, _: load_flat(gpus, vectors),
        )
