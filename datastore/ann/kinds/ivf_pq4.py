"""IVF with 4-bit product quantization, compared in registers: the kind for large datastores.

A vector x lies in the lists of one or two centroids c. Its code in each is a 4-bit product quantization of the rotated
residual R (x - c), R having orthonormal rows that keep what varies most. A query q scores it <q, c> + <R q, code>, so
one look-up table serves all lists, and FAISS's fast-scan layout compares 32 codes at once.

On disk codes lie list by list for each segment, so they need no encoding again when an index is opened over any set of
segments: that joins the lists, and lays them out for the registers. Both files are described in docs/FORMAT.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datastore.ann.clustering import CoarseLevel, assign, train_coarse
from datastore.ann.index import Cover
from datastore.ann.kinds.coarse import CoarseIndex
from datastore.ann.kinds.covering import ListRows, covering_lists
from datastore.ann.kinds.gpu import Gpus
from datastore.ann.kinds.joined_lists import JoinedLists
from datastore.ann.kinds.library import (
    CODEBOOK,
    faiss,
    give_back_memory,
    search_lists,
    train_codebooks,
    train_rotation,
    use_threads,
)
from datastore.ann.kinds.list_file import encoded, renumbered
from datastore.ann.kinds.on_gpus import ByteLists, assigner, for_building, load_half_byte_codes, place
from datastore.ann.kinds.packed_lists import packed_lists
from datastore.ann.kinds.probing import ranks
from datastore.ann.kinds.template_file import read_arrays
from datastore.ann.spec import IndexSpec

if TYPE_CHECKING:
    from datastore.ann.index import AnnIndex
    from datastore.store.vectors import VectorFile

_NO_DIRECTION = np.float32(1e-10)

_ALONE = 10
"""FAISS's name for the scan that keeps its results in a heap: for one query a tenth faster than its own choice."""

_RESIDUALS = 32_768
"""Vectors whose residuals train rotation and codebooks."""


class IvfPq4Template:
    """Centroids, rotation and codebooks, trained once for the datastore."""

    exact = False
    joins = True

    def __init__(
        self,
        spec: IndexSpec,
        coarse: CoarseIndex,
        rotation: NDArray[np.float32],
        codebooks: NDArray[np.float32],
        gpus: Gpus | None = None,
    ) -> None:
        self._spec = spec
        self._gpus = gpus
        self._coarse = coarse
        self._rotation = rotation
        """float32 [2 * pq_m, dimension]."""
        self._codebooks = codebooks
        """float32 [pq_m, CODEBOOK, 2]."""

    @classmethod
    def load(cls, spec: IndexSpec, path: Path | None, gpus: Gpus | None = None) -> IvfPq4Template:
        shapes = {
            "centroids": (spec.nlist, spec.dimension),
            "coarse_codebooks": None,
            "margins": ranks(spec.nlist).shape,
            "rotation": (2 * spec.pq_m, spec.dimension),
            "codebooks": (spec.pq_m, CODEBOOK, 2),
        }
        arrays = read_arrays(path, spec, shapes, may_lack=("margins",))
        coarse = CoarseIndex(arrays["centroids"], spec.seed, arrays["coarse_codebooks"], arrays.get("margins"))
        return cls(spec, coarse, arrays["rotation"], arrays["codebooks"], gpus)

    @classmethod
    def train(cls, spec: IndexSpec, sample: NDArray[np.float32], gpus: Gpus | None = None) -> IvfPq4Template:
        building = for_building(gpus, spec)
        coarse = train_coarse(sample, spec.nlist, spec.seed, building)
        chosen = np.sort(np.random.default_rng(spec.seed).permutation(len(sample))[:_RESIDUALS])
        vectors = sample[chosen]
        lists = assign(coarse, vectors, spec.copies, spec.spill_weight)
        residuals = np.concatenate([vectors - coarse.centroids[lists[:, copy]] for copy in range(spec.copies)])
        rotation = train_rotation(residuals, 2 * spec.pq_m, spec.pq_m, spec.seed)
        return cls(spec, coarse, rotation, train_codebooks(residuals @ rotation.T, spec.pq_m, spec.seed), building)

    def save(self, path: Path) -> bool:
        with path.open("wb") as file:
            np.savez(
                file,
                centroids=self._coarse.centroids,
                coarse_codebooks=self._coarse.codebooks,
                margins=self._coarse.margins,
                rotation=self._rotation,
                codebooks=self._codebooks,
            )
        return True

    @cached_property
    def _assigner(self) -> CoarseLevel:
        """What puts vectors into lists."""
        return assigner(self._gpus, self._spec, self._coarse.centroids) or self._coarse

    def write_segment(self, vectors: Iterable[NDArray[np.float16]], path: Path) -> bool:
        quantizer = faiss.ProductQuantizer(2 * self._spec.pq_m, self._spec.pq_m, 4)
        faiss.copy_array_to_vector(self._codebooks.reshape(-1), quantizer.centroids)

        def encode(exact: NDArray[np.float32], lists: NDArray[np.int64]) -> NDArray[np.uint8]:
            residuals = exact - self._coarse.centroids[lists]
            codes: NDArray[np.uint8] = quantizer.compute_codes(np.ascontiguousarray(residuals @ self._rotation.T))
            return codes

        exact = (block.astype(np.float32) for block in vectors)
        encoded(exact, self._assigner, self._spec, encode).write(path, self._spec)
        return True

    def nearest_products(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._coarse.search(vectors, 1)[0][:, 0]

    def write_merged(self, paths: Sequence[Path], passages: Sequence[int], rows: NDArray[np.int64], path: Path) -> bool:
        with JoinedLists(paths, passages, self._spec) as joined:
            renumbered(joined, rows).write(path, self._spec)
        return True

    def open(self, paths: Sequence[Path], vectors: Sequence[VectorFile], first_row: int = 0) -> AnnIndex:
        rows = [file.rows for file in vectors]
        trained = (self._coarse, self._rotation, self._codebooks)
        with JoinedLists(paths, rows, self._spec, first_row) as joined:
            index = place(
                self._gpus if first_row == 0 else None,
                self._spec,
                sum(rows),
                IvfPq4Index(self._spec, *trained, joined, list_rows=ListRows(paths, vectors, first_row)),
                lambda gpus, plan: load_half_byte_codes(gpus, plan, ByteLists(*trained, plan.code_bytes), joined),
            )
        give_back_memory()
        return index


class IvfPq4Index:
    """The lists of some segments, joined, in memory."""

    def __init__(
        self,
        spec: IndexSpec,
        coarse: CoarseIndex,
        rotation: NDArray[np.float32],
        codebooks: NDArray[np.float32],
        joined: JoinedLists,
        *,
        list_rows: ListRows,
    ) -> None:
        self._list_rows = list_rows
        self._coarse = coarse
        self._rotation = np.ascontiguousarray(rotation.T)
        self._copies = spec.copies
        self._nlist = spec.nlist
        self._lists = packed_lists(joined, spec.code_bytes)
        entries = int(joined.sizes.sum())
        self._together = _over(self._lists, entries, spec, codebooks)
        self._alone = _over(self._lists, entries, spec, codebooks)
        self._alone.implem = _ALONE

    def search(
        self, queries: NDArray[np.float32], depth: int, nprobe: int, accept: NDArray[np.uint8] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        use_threads(1)
        return self.scan(queries, depth, self._coarse.probes(queries, min(nprobe, self._nlist)), accept)

    def probes(
        self, queries: NDArray[np.float32], nprobe: int, accept: NDArray[np.uint8] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        use_threads(1)
        return self._coarse.probes(queries, min(nprobe, self._nlist))

    def count_in_lists(self, accept: NDArray[np.uint8]) -> NDArray[np.int32]:
        return self._list_rows.count(accept, self._nlist)

    def search_covering(
        self, queries: NDArray[np.float32], depth: int, cover: Cover
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        use_threads(1)
        return self.scan(queries, depth, covering_lists(self._coarse, queries, cover), cover.accept)

    def covering_probes(
        self, queries: NDArray[np.float32], cover: Cover
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        use_threads(1)
        return covering_lists(self._coarse, queries, cover)

    def scan(
        self,
        queries: NDArray[np.float32],
        depth: int,
        probes: tuple[NDArray[np.float32], NDArray[np.int64]],
        accept: NDArray[np.uint8] | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        rotated = queries @ self._rotation
        rotated[:, 0] += _NO_DIRECTION  # of look-up tables of nothing but zeros FAISS makes no scores
        codes = self._alone if len(queries) == 1 else self._together
        depth = min(self._copies * depth, max(1, codes.ntotal))
        return search_lists(codes, rotated, depth, probes, accept)


def _over(lists: Any, entries: int, spec: IndexSpec, codebooks: NDArray[np.float32]) -> Any:
    """FAISS's index over these lists, which must outlive it."""
    rotated = 2 * spec.pq_m
    # The quantizer is never asked: lists and products come with each search. Codes are of residuals already, so FAISS
    # has nothing to subtract, but adds the products of the centroids to the scores of their lists.
    index = faiss.IndexIVFPQFastScan(
        faiss.IndexFlatIP(rotated), rotated, spec.nlist, spec.pq_m, 4, faiss.METRIC_INNER_PRODUCT
    )
    faiss.copy_array_to_vector(codebooks.reshape(-1), index.pq.centroids)
    index.by_residual = True
    index.is_trained = True
    index.replace_invlists(lists, False)
    index.ntotal = entries
    return index
