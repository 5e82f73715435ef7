"""FAISS, loaded the right way, and what the kinds share of it: the only file that imports it.

Every search sets OpenMP to one thread, a setting of the calling thread alone: a second thread gives one query nothing
(measured), while a team for each of a server's threads makes them wait for one another. Training and adding use all.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datastore.errors import DataLoss, InvalidArgument, ResourceExhausted
from datastore.store.checksums import MEND, unreadable

_ROTATION_ROUNDS = 12
_ROTATION_POINTS = 16_384


def _openblas_core() -> str | None:
    """The kernel family that this CPU runs; the wheel's OpenBLAS misjudges newer CPUs, at a fifth of the speed."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split())
    except OSError:
        return None
    if "avx512f" in flags:
        return "SkylakeX"
    return "Haswell" if {"avx2", "fma"} <= flags else None


# OpenBLAS and OpenMP read these once, when FAISS is loaded.
if (_core := _openblas_core()) is not None:
    os.environ.setdefault("OPENBLAS_CORETYPE", _core)
# Threads that wait for one another sleep: while they spin, one that shares its core with another process is not let on,
# and training a million passages took over 6 minutes beside one busy process, where it takes 26 s alone. Not so for
# what is loaded later: torch has an OpenMP of its own, and was not measured.
_chosen = os.environ.get("OMP_WAIT_POLICY")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import faiss  # noqa: E402

if _chosen is None:
    del os.environ["OMP_WAIT_POLICY"]

__all__ = [
    "CODEBOOK",
    "accepted_part",
    "faiss",
    "give_back_memory",
    "inner_products_by_row",
    "k_means",
    "merged",
    "pointer",
    "read_index",
    "search_lists",
    "selector",
    "train_codebooks",
    "train_rotation",
    "use_all_threads",
    "use_threads",
    "write_index",
]

pointer = faiss.swig_ptr


def use_threads(count: int) -> None:
    """For the calls of this thread from now on."""
    faiss.omp_set_num_threads(count)


_ALL_THREADS: int = faiss.omp_get_max_threads()


def use_all_threads() -> None:
    """As many as the process began with: their number decides how sums are rounded, so what a search of this thread
    chose before must have no say in what is trained."""
    faiss.omp_set_num_threads(_ALL_THREADS)


def k_means(
    vectors: NDArray[np.float32], count: int, rounds: int, seed: int, assigner: Any | None = None
) -> NDArray[np.float32]:
    """Spherical k-means: unit vectors float32 [count, dimension], for n >= count vectors.

    Args:
        assigner: an empty flat index of inner products that is to find the nearest centroids; None for one on the CPU.
    """
    dimension = vectors.shape[1]
    clustering = faiss.Clustering(dimension, count)
    clustering.niter = rounds
    clustering.seed = seed
    clustering.spherical = True
    clustering.min_points_per_centroid = 1
    clustering.max_points_per_centroid = 1 << 30
    # The wrapper of this class takes float32 alone, and leaves the centroids in a vector of C++.
    clustering.train(
        np.ascontiguousarray(vectors, np.float32), faiss.IndexFlatIP(dimension) if assigner is None else assigner
    )
    centroids: NDArray[np.float32] = faiss.vector_to_array(clustering.centroids)
    return centroids.reshape(count, dimension)


CODEBOOK = 16
"""Centroids of a 4-bit sub-quantizer."""
_CODEBOOK_POINTS = 4096
"""Vectors that 4-bit codebooks are trained on: 256 for each centroid, which is FAISS's own ceiling."""


def _quantizer(dimension: int, count: int, seed: int) -> Any:
    quantizer = faiss.ProductQuantizer(dimension, count, 4)
    quantizer.cp.seed = seed
    quantizer.cp.min_points_per_centroid = 1
    return quantizer


def train_codebooks(vectors: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    """4-bit product quantization of float32 [n, dimension]: float32 [count, CODEBOOK, dimension / count]."""
    quantizer = _quantizer(vectors.shape[1], count, seed)
    chosen = np.random.default_rng(seed).permutation(len(vectors))[:_CODEBOOK_POINTS]
    quantizer.train(np.ascontiguousarray(vectors[chosen]))
    codebooks: NDArray[np.float32] = faiss.vector_to_array(quantizer.centroids)
    return codebooks.reshape(count, CODEBOOK, -1)


def train_rotation(vectors: NDArray[np.float32], dimension: int, count: int, seed: int) -> NDArray[np.float32]:
    """Orthonormal rows float32 [dimension, d] that leave the least error to a 4-bit product quantizer of `count` parts.

    Ge, He, Ke, Sun: Optimized Product Quantization, 2013.
    """
    transform = faiss.OPQMatrix(vectors.shape[1], count, dimension)
    transform.niter = _ROTATION_ROUNDS
    quantizer = _quantizer(dimension, count, seed)  # the transform does not own it
    transform.pq = quantizer
    chosen = np.random.default_rng(seed).permutation(len(vectors))[:_ROTATION_POINTS]
    transform.train(np.ascontiguousarray(vectors[chosen]))
    rotation: NDArray[np.float32] = faiss.vector_to_array(transform.A)
    return rotation.reshape(dimension, vectors.shape[1])


def accepted_part(accept: NDArray[np.uint8] | None, start: int, rows: int) -> NDArray[np.uint8] | None:
    """The bits of `rows` rows from `start` on, beginning at a byte."""
    if accept is None or start == 0:
        return accept
    first = start // 8
    bits = np.unpackbits(accept[first : (start + rows + 7) // 8], bitorder="little")[start - 8 * first :][:rows]
    return np.packbits(bits, bitorder="little")


def selector(accept: NDArray[np.uint8] | None) -> Any:
    """FAISS's form of a bitmap of rows (bit `r % 8` of byte `r // 8`), which must outlive it; None takes all."""
    return None if accept is None else faiss.IDSelectorBitmap(8 * len(accept), pointer(accept))


def search_lists(
    index: Any,
    queries: NDArray[np.float32],
    depth: int,
    probes: tuple[NDArray[np.float32], NDArray[np.int64]],
    accept: NDArray[np.uint8] | None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(scores, rows), both [n, depth], that an IVF index finds in lists already chosen.

    Args:
        probes: (inner products of their centroids, lists), both [n, nprobe].
    """
    products, lists = probes
    scores = np.empty((len(queries), depth), np.float32)
    rows = np.empty((len(queries), depth), np.int64)
    # The wrapper of this call takes nprobe from the index, which other threads share.
    index.search_preassigned_c(
        len(queries),
        pointer(queries),
        depth,
        pointer(lists),
        pointer(products),
        pointer(scores),
        pointer(rows),
        False,
        _probing(lists.shape[1]) if accept is None else _probing_some(lists.shape[1], accept),
    )
    return scores, rows


def _probing_some(nprobe: int, accept: NDArray[np.uint8]) -> Any:
    return faiss.SearchParametersIVF(nprobe=nprobe, sel=selector(accept))


_probing = functools.lru_cache(1024)(lambda nprobe: faiss.SearchParametersIVF(nprobe=nprobe))
"""Kept, as making one takes some microseconds."""


def merged(
    found: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]], bases: Sequence[int], depth: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best `depth` of what several indexes found, each (scores, rows) of [queries, k] and rows from its base on."""
    if len(found) == 1 and bases[0] == 0:
        return found[0]
    scores = np.concatenate([scores for scores, _ in found], axis=1)
    rows = np.concatenate(
        [np.where(rows < 0, -1, rows + base) for (_, rows), base in zip(found, bases, strict=False)], axis=1
    )
    if len(found) > 1 and scores.shape[1] > depth:
        scores[rows < 0] = -np.inf
        best = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
        scores, rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
    return scores, rows


def give_back_memory() -> None:
    """Return freed memory to the system: glibc keeps what large temporary arrays and small blocks took."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def write_index(index: Any, path: Path) -> None:
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:  # FAISS says what the system said in words alone
        reason = str(error).strip().splitlines()[-1]
        raise ResourceExhausted(
            f"{path} cannot be written: {reason}", mend="free some space and run the build again"
        ) from None


def read_index(path: Path, kind: type, flags: int) -> Any:
    try:
        index = faiss.read_index(str(path), flags)
    except RuntimeError as error:
        raise unreadable(path, ValueError(str(error).strip().splitlines()[-1])) from None
    if not isinstance(index, kind):
        raise DataLoss(f"{path} holds {type(index).__name__}; wanted {kind.__name__}", mend=MEND)
    return index


class StoredVectors:
    """The vectors of a FAISS index of another program, as far as it can give them back: exact ones of a flat index, of
    any other what its codes decode to.

    Raises:
        InvalidArgument: it cannot be read, or keeps nothing to decode.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise InvalidArgument(
                f"{path} cannot be read: {reason}", mend="name a FAISS index", field="index"
            ) from None
        self._path = path
        self.count = int(self._index.ntotal)
        inside = faiss.downcast_index(getattr(self._index, "index", self._index))
        self.exact = isinstance(inside, faiss.IndexFlat | faiss.IndexIVFFlat)
        if isinstance(inside, faiss.IndexIVF):
            inside.make_direct_map()

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """float32 [stop - start, dimension], by the ids of the index."""
        try:
            vectors: NDArray[np.float32] = self._index.reconstruct_n(start, stop - start)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise InvalidArgument(
                f"{self._path} gives no vectors back for the ids {start} to {stop - 1}: {reason}",
                mend="wanted ids that count from 0, and an index that can reconstruct",
                field="index",
            ) from None
        return vectors


def inner_products_by_row(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Of query i, float32 [n, d], with the vectors, float32 [m, d], that `rows` [n, k] names for it: float32 [n, k]."""
    products = np.empty(rows.shape, np.float32)
    queries, vectors = np.ascontiguousarray(queries), np.ascontiguousarray(vectors)
    rows = np.ascontiguousarray(rows)
    faiss.fvec_inner_products_by_idx(
        pointer(products), pointer(queries), pointer(vectors), pointer(rows), vectors.shape[1], len(rows), rows.shape[1]
    )
    return products
