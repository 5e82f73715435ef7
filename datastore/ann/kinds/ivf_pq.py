"""IVF-PQ with 8-bit sub-quantizers: what CompactDS uses; its codes can stay on disk, mapped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datastore.ann.kinds.gpu import Gpus, device_errors
from datastore.ann.kinds.library import (
    accepted_part,
    faiss,
    merged,
    pointer,
    read_index,
    search_lists,
    use_threads,
    write_index,
)
from datastore.ann.kinds.on_gpus import assigner, for_building, load_byte_codes, place
from datastore.ann.spec import IndexSpec
from datastore.errors import DataLoss
from datastore.store.checksums import MEND

if TYPE_CHECKING:
    from datastore.ann.clustering import CoarseLevel
    from datastore.ann.index import AnnIndex
    from datastore.store.vectors import VectorFile


class IvfPqIndex:
    """Inverted lists of product-quantized residuals, memory-mapped, a FAISS index for each segment."""

    def __init__(self, trained: Any, segments: Sequence[Any], first_row: int = 0) -> None:
        for segment in segments:
            _lend_quantizer(trained, segment)
        self._trained = trained  # owns the quantizer
        self._segments = segments
        self._bases = np.cumsum([first_row, *(segment.ntotal for segment in segments)]).tolist()

    def search(
        self, queries: NDArray[np.float32], depth: int, nprobe: int, accept: NDArray[np.uint8] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        use_threads(1)
        nprobe = min(nprobe, self._trained.nlist)
        probes = self._trained.quantizer.search(queries, nprobe)
        found = [
            search_lists(segment, queries, depth, probes, accepted_part(accept, start, segment.ntotal))
            for segment, start in zip(self._segments, self._bases, strict=False)
        ]
        if not found:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        return merged(found, self._bases, depth)


class IvfPqTemplate:
    """Coarse centroids and PQ codebooks, trained once for the datastore.

    A segment's file holds its lists with an empty coarse quantizer; the template's takes its place at opening.
    Jégou, Douze, Schmid: Product Quantization for Nearest Neighbor Search, 2011.
    """

    exact = False

    def __init__(self, spec: IndexSpec, index: Any, gpus: Gpus | None = None) -> None:
        self._spec = spec
        self._index = index
        self._gpus = gpus

    @classmethod
    def load(cls, spec: IndexSpec, path: Path | None, gpus: Gpus | None = None) -> IvfPqTemplate:
        if path is None:
            raise DataLoss(f"the manifest names no template for the index {spec.kind}", mend=MEND)
        index = read_index(path, faiss.IndexIVFPQ, 0)
        seen = (index.d, index.nlist, index.pq.M)
        wanted = (spec.dimension, spec.nlist, spec.pq_m)
        if seen != wanted:
            raise DataLoss(f"{path} has (dimension, nlist, pq_m) {seen}; wanted {wanted}", mend=MEND)
        return cls(spec, index, gpus)

    @classmethod
    def train(cls, spec: IndexSpec, sample: NDArray[np.float32], gpus: Gpus | None = None) -> IvfPqTemplate:
        quantizer = faiss.IndexFlatIP(spec.dimension)
        index = faiss.IndexIVFPQ(quantizer, spec.dimension, spec.nlist, spec.pq_m, 8, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed = spec.seed
        index.pq.cp.seed = spec.seed
        index.cp.spherical = True
        index.cp.max_points_per_centroid = index.pq.cp.max_points_per_centroid = 256
        # The sample was chosen to be enough; FAISS warns on standard error below 39 points a centroid, for PQ too.
        index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
        building = for_building(gpus, spec)
        # FAISS does not hold on to it: this name does.
        nearest = None if building is None else building.flat(spec.dimension)
        index.clustering_index = nearest
        with nullcontext() if building is None else device_errors():
            index.train(np.ascontiguousarray(sample, np.float32))
        index.clustering_index = None
        return cls(spec, index, building)

    def save(self, path: Path) -> bool:
        write_index(self._index, path)
        return True

    @cached_property
    def _assigner(self) -> CoarseLevel | None:
        """What puts vectors into lists, where that is not the index itself."""
        return assigner(self._gpus, self._spec, self._index.quantizer.reconstruct_n(0, self._index.nlist))

    def write_segment(self, vectors: Iterable[NDArray[np.float16]], path: Path) -> bool:
        index = faiss.clone_index(self._index)
        for block in vectors:
            exact = block.astype(np.float32)
            if self._assigner is None:
                index.add(exact)
            else:
                _, lists = self._assigner.search(exact, 1)
                index.add_core(len(exact), pointer(exact), None, pointer(lists))
        index.quantizer.reset()
        write_index(index, path)
        return True

    def nearest_products(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        products: NDArray[np.float32] = self._index.quantizer.search(np.ascontiguousarray(vectors, np.float32), 1)[0]
        return products[:, 0]

    def write_merged(self, paths: Sequence[Path], passages: Sequence[int], rows: NDArray[np.int64], path: Path) -> bool:
        index = faiss.clone_index(self._index)
        start = 0
        for source, count in zip(paths, passages, strict=True):
            segment = self._open_segment(source, count, 0)  # owns its lists
            for number in range(index.nlist):
                _copy_list(segment.invlists, index.invlists, number, rows[start : start + count])
            start += count
        index.ntotal = int(np.count_nonzero(rows >= 0))
        index.quantizer.reset()
        write_index(index, path)
        return True

    @property
    def joins(self) -> bool:
        """On GPUs; elsewhere the segments' files are mapped one by one."""
        return self._gpus is not None

    def open(self, paths: Sequence[Path], vectors: Sequence[VectorFile], first_row: int = 0) -> AnnIndex:
        rows = [file.rows for file in vectors]
        mapped = [self._open_segment(path, count) for path, count in zip(paths, rows, strict=True)]
        return place(
            self._gpus if first_row == 0 else None,
            self._spec,
            sum(rows),
            IvfPqIndex(self._index, mapped, first_row),
            lambda gpus, plan: load_byte_codes(gpus, plan, self._index, self._joined(paths, rows)),
        )

    def _joined(self, paths: Sequence[Path], rows: Sequence[int]) -> Any:
        """The segments as one index, in memory; rows count on from segment to segment."""
        joined = faiss.clone_index(self._index)
        for path, count in zip(paths, rows, strict=True):
            segment = self._open_segment(path, count, 0)
            joined.invlists.merge_from(segment.invlists, joined.ntotal)
            joined.ntotal += count
        return joined

    def _open_segment(self, path: Path, rows: int, flags: int = faiss.IO_FLAG_MMAP_IFC) -> Any:
        index = read_index(path, faiss.IndexIVFPQ, flags)
        seen = (index.ntotal, index.d, index.nlist, index.pq.M)
        wanted = (rows, self._index.d, self._index.nlist, self._index.pq.M)
        if seen != wanted:
            raise DataLoss(f"{path} has (rows, dimension, nlist, pq_m) {seen}; wanted {wanted}", mend=MEND)
        return index


def _copy_list(source: Any, target: Any, number: int, rows: NDArray[np.int64]) -> None:
    """Append the codes of a list, their ids through `rows`, but for those that become -1."""
    size = source.list_size(number)
    if not size:
        return
    new = rows[faiss.rev_swig_ptr(source.get_ids(number), size)]
    codes = faiss.rev_swig_ptr(source.get_codes(number), size * source.code_size).reshape(size, -1)
    kept = np.flatnonzero(new >= 0)
    if len(kept):
        ids, codes = np.ascontiguousarray(new[kept]), np.ascontiguousarray(codes[kept])
        target.add_entries(number, len(kept), pointer(ids), pointer(codes))


def _lend_quantizer(lender: Any, index: Any) -> None:
    """Have `index` use the coarse quantizer of `lender`, which must outlive it, in place of its own, which is freed."""
    own = faiss.downcast_index(index.quantizer)
    index.own_fields = False
    index.quantizer = lender.quantizer
    # Not `own.this.acquire()`: the binding would later let go of its type table once more than it took hold of it, and
    # after some segments free the table under every other object.
    type(own).__swig_destroy__(own)
