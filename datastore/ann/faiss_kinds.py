"""The kinds of ANN index, over FAISS: the only file that imports it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from datastore.ann.index import Probes
from datastore.ann.spec import IndexSpec
from datastore.errors import DataLoss, ResourceExhausted

if TYPE_CHECKING:
    from datastore.store.vectors import VectorFile


def _openblas_core() -> str | None:
    """The kernel family that this CPU runs; the wheel's OpenBLAS misjudges newer CPUs, at a fifth of the speed."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split())
    except OSError:
        return None
    if "avx512f" in flags:
        return "SkylakeX"
    return "Haswell" if {"avx2", "fma"} <= flags else None


# OpenBLAS reads this once, when FAISS is loaded.
if (_core := _openblas_core()) is not None:
    os.environ.setdefault("OPENBLAS_CORETYPE", _core)

import faiss  # noqa: E402

# Every search call sets OpenMP to one thread, a setting of the calling thread alone: a second thread gives one query
# nothing (measured), while a team for each of a server's threads makes them wait for one another. Training and adding
# use all.

_MEND = "restore the file from a copy, or build the store again"


class FlatSegment:
    """All vectors of a segment as float16 in memory, scanned whole."""

    def __init__(self, vectors: VectorFile) -> None:
        self._index = faiss.IndexScalarQuantizer(
            vectors.dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        # The stored rows are the codes, byte for byte.
        codes = vectors.matrix.reshape(-1).view(np.uint8)
        faiss.copy_array_to_vector(codes, self._index.codes)
        self._index.ntotal = vectors.rows

    def search(
        self, queries: NDArray[np.float32], k: int, probes: Probes | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        faiss.omp_set_num_threads(1)
        scores, rows = self._index.search(queries, min(k, max(1, self._index.ntotal)))
        return scores, rows


class FlatTemplate:
    """No codes of its own: the exact vectors are scanned."""

    exact = True

    @classmethod
    def load(cls, spec: IndexSpec, path: Path | None) -> FlatTemplate:
        return cls()

    @classmethod
    def train(cls, spec: IndexSpec, sample: NDArray[np.float32]) -> FlatTemplate:
        return cls()

    def save(self, path: Path) -> bool:
        return False

    def write_segment(self, vectors: Iterable[NDArray[np.float16]], path: Path) -> bool:
        return False

    def open_segment(self, path: Path, vectors: VectorFile) -> FlatSegment:
        return FlatSegment(vectors)

    def assign(self, queries: NDArray[np.float32], nprobe: int) -> Probes | None:
        return None


class IvfPqSegment:
    """Inverted lists of product-quantized residuals, memory-mapped."""

    def __init__(self, index: faiss.IndexIVFPQ, trained: faiss.IndexIVFPQ) -> None:
        _lend_quantizer(trained, index)
        self._index = index
        self._trained = trained  # owns the quantizer

    def search(
        self, queries: NDArray[np.float32], k: int, probes: Probes | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        assert probes is not None
        parameters = faiss.SearchParametersIVF(nprobe=probes.lists.shape[1])
        scores = np.empty((len(queries), k), np.float32)
        rows = np.empty((len(queries), k), np.int64)
        faiss.omp_set_num_threads(1)
        # The wrapper of this call takes nprobe from the index, which other threads share.
        self._index.search_preassigned_c(
            len(queries),
            faiss.swig_ptr(queries),
            k,
            faiss.swig_ptr(probes.lists),
            faiss.swig_ptr(probes.distances),
            faiss.swig_ptr(scores),
            faiss.swig_ptr(rows),
            False,
            parameters,
        )
        return scores, rows


class IvfPqTemplate:
    """Coarse centroids and PQ codebooks, trained once for the datastore.

    A segment's file holds its lists with an empty coarse quantizer; the template's takes its place at opening.
    Jégou, Douze, Schmid: Product Quantization for Nearest Neighbor Search, 2011.
    """

    exact = False

    def __init__(self, index: faiss.IndexIVFPQ) -> None:
        self._index = index

    @classmethod
    def load(cls, spec: IndexSpec, path: Path | None) -> IvfPqTemplate:
        if path is None:
            raise DataLoss(f"the manifest names no template for the index {spec.kind}", mend=_MEND)
        index = _read_index(path, faiss.IndexIVFPQ, 0)
        seen = (index.d, index.nlist, index.pq.M)
        wanted = (spec.dimension, spec.nlist, spec.pq_m)
        if seen != wanted:
            raise DataLoss(f"{path} has (dimension, nlist, pq_m) {seen}; wanted {wanted}", mend=_MEND)
        return cls(index)

    @classmethod
    def train(cls, spec: IndexSpec, sample: NDArray[np.float32]) -> IvfPqTemplate:
        quantizer = faiss.IndexFlatIP(spec.dimension)
        index = faiss.IndexIVFPQ(quantizer, spec.dimension, spec.nlist, spec.pq_m, 8, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed = spec.seed
        index.pq.cp.seed = spec.seed
        index.cp.spherical = True
        index.cp.max_points_per_centroid = index.pq.cp.max_points_per_centroid = 256
        # The sample was chosen to be enough; FAISS warns on standard error below 39 points a centroid, for PQ too.
        index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
        index.train(np.ascontiguousarray(sample, np.float32))
        return cls(index)

    def save(self, path: Path) -> bool:
        _write_index(self._index, path)
        return True

    def write_segment(self, vectors: Iterable[NDArray[np.float16]], path: Path) -> bool:
        index = faiss.clone_index(self._index)
        for block in vectors:
            index.add(block.astype(np.float32))
        index.quantizer.reset()
        _write_index(index, path)
        return True

    def open_segment(self, path: Path, vectors: VectorFile) -> IvfPqSegment:
        index = _read_index(path, faiss.IndexIVFPQ, faiss.IO_FLAG_MMAP_IFC)
        seen = (index.ntotal, index.d, index.nlist, index.pq.M)
        wanted = (vectors.rows, self._index.d, self._index.nlist, self._index.pq.M)
        if seen != wanted:
            raise DataLoss(f"{path} has (rows, dimension, nlist, pq_m) {seen}; wanted {wanted}", mend=_MEND)
        return IvfPqSegment(index, self._index)

    def assign(self, queries: NDArray[np.float32], nprobe: int) -> Probes | None:
        faiss.omp_set_num_threads(1)
        distances, lists = self._index.quantizer.search(queries, min(nprobe, self._index.nlist))
        return Probes(lists, distances)


def _lend_quantizer(lender: faiss.IndexIVFPQ, index: faiss.IndexIVFPQ) -> None:
    """Have `index` use the coarse quantizer of `lender`, which must outlive it, in place of its own, which is freed."""
    own = faiss.downcast_index(index.quantizer)
    index.own_fields = False
    index.quantizer = lender.quantizer
    # Not `own.this.acquire()`: the binding would later let go of its type table once more than it took hold of it, and
    # after some segments free the table under every other object.
    type(own).__swig_destroy__(own)


def _write_index(index: faiss.IndexIVFPQ, path: Path) -> None:
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:  # FAISS says what the system said in words alone
        reason = str(error).strip().splitlines()[-1]
        raise ResourceExhausted(
            f"{path} cannot be written: {reason}", mend="free some space and run the build again"
        ) from None


def _read_index(path: Path, kind: type, flags: int) -> faiss.IndexIVFPQ:
    try:
        index = faiss.read_index(str(path), flags)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise DataLoss(f"{path} cannot be read: {reason}", mend=_MEND) from None
    if not isinstance(index, kind):
        raise DataLoss(f"{path} holds {type(index).__name__}; wanted {kind.__name__}", mend=_MEND)
    return index


TEMPLATES: dict[str, type[FlatTemplate] | type[IvfPqTemplate]] = {"flat": FlatTemplate, "ivf-pq": IvfPqTemplate}
"""Index kind -> how to train and load it."""
