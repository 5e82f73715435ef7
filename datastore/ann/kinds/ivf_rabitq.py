"""IVF with RaBitQ: a sign for each dimension of the residual and two factors that make its estimate unbiased.

A vector x lies in the lists of one or two centroids c; all of them are rotated at random first. Its code in a list is
the signs s of r = x - c and two numbers, |r|^2 - |x|^2 and f = |r|^2 sqrt(D) / sum |r_i|: a query scores it
<q, c> + <x, c> - |c|^2 + f <q - c, s> / sqrt(D). Further bits for each dimension, where asked for, refine the score of
those that the signs do not rule out. Gao, Long: RaBitQ, SIGMOD 2024; Gao, Gou, Xu, Yang, Long, Wong: Practical and
Asymptotically Optimal Quantization of High-Dimensional Vectors, SIGMOD 2025.

Nothing but the centroids is trained. Files and joining are as for ivf-pq4; both files are described in docs/FORMAT.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datastore.ann.clustering import CoarseLevel, train_coarse
from datastore.ann.index import Cover
from datastore.ann.kinds.coarse import CoarseIndex
from datastore.ann.kinds.covering import ListRows, covering_lists
from datastore.ann.kinds.gpu import Gpus
from datastore.ann.kinds.joined_lists import JoinedLists
from datastore.ann.kinds.library import faiss, give_back_memory, merged, pointer, search_lists, use_threads
from datastore.ann.kinds.list_file import encoded, renumbered
from datastore.ann.kinds.on_gpus import assigner, for_building, place
from datastore.ann.kinds.packed_lists import BLOCK, packed_lists
from datastore.ann.kinds.probing import ranks
from datastore.ann.kinds.template_file import read_arrays
from datastore.ann.spec import IndexSpec

if TYPE_CHECKING:
    from datastore.ann.index import AnnIndex
    from datastore.store.vectors import VectorFile

_TABLE_BYTES = 8 << 20
"""Of look-up tables at once: FAISS makes one for each query and list."""
_TABLE_BYTES_A_DIMENSION = 20
"""16 entries for four dimensions, as floats and then as bytes."""


class IvfRabitqTemplate:
    """Centroids, trained once for the datastore, in the coordinates of a random rotation."""

    exact = False
    joins = True

    def __init__(
        self, spec: IndexSpec, coarse: CoarseIndex, rotation: NDArray[np.float32], gpus: Gpus | None = None
    ) -> None:
        self._spec = spec
        self._gpus = gpus
        self._coarse = coarse
        self._rotation = rotation
        """float32 [rotated dimension, dimension], with orthonormal columns."""

    @classmethod
    def load(cls, spec: IndexSpec, path: Path | None, gpus: Gpus | None = None) -> IvfRabitqTemplate:
        shapes = {
            "centroids": (spec.nlist, spec.rotated_dimension),
            "coarse_codebooks": None,
            "margins": ranks(spec.nlist).shape,
            "rotation": (spec.rotated_dimension, spec.dimension),
        }
        arrays = read_arrays(path, spec, shapes)
        coarse = CoarseIndex(arrays["centroids"], spec.seed, arrays["coarse_codebooks"], arrays["margins"])
        return cls(spec, coarse, arrays["rotation"], gpus)

    @classmethod
    def train(cls, spec: IndexSpec, sample: NDArray[np.float32], gpus: Gpus | None = None) -> IvfRabitqTemplate:
        drawn = np.random.default_rng(spec.seed).standard_normal((spec.rotated_dimension, spec.dimension))
        rotation = np.ascontiguousarray(np.linalg.qr(drawn)[0], np.float32)
        building = for_building(gpus, spec)
        return cls(spec, train_coarse(sample @ rotation.T, spec.nlist, spec.seed, building), rotation, building)

    def save(self, path: Path) -> bool:
        with path.open("wb") as file:
            np.savez(
                file,
                centroids=self._coarse.centroids,
                coarse_codebooks=self._coarse.codebooks,
                margins=self._coarse.margins,
                rotation=self._rotation,
            )
        return True

    @cached_property
    def _assigner(self) -> CoarseLevel:
        """What puts vectors into lists."""
        return assigner(self._gpus, self._spec, self._coarse.centroids) or self._coarse

    def write_segment(self, vectors: Iterable[NDArray[np.float16]], path: Path) -> bool:
        encoder = _fast_scan(self._spec, self._coarse)

        def encode(rotated: NDArray[np.float32], lists: NDArray[np.int64]) -> NDArray[np.uint8]:
            codes = np.empty((len(rotated), self._spec.code_bytes), np.uint8)
            if len(rotated):
                encoder.encode_vectors(len(rotated), pointer(rotated), pointer(lists), pointer(codes))
            return codes

        rotated = (block.astype(np.float32) @ self._rotation.T for block in vectors)
        encoded(rotated, self._assigner, self._spec, encode).write(path, self._spec)
        return True

    def nearest_products(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._coarse.search(vectors @ self._rotation.T, 1)[0][:, 0]

    def write_merged(self, paths: Sequence[Path], passages: Sequence[int], rows: NDArray[np.int64], path: Path) -> bool:
        with JoinedLists(paths, passages, self._spec) as joined:
            renumbered(joined, rows).write(path, self._spec)
        return True

    def open(self, paths: Sequence[Path], vectors: Sequence[VectorFile], first_row: int = 0) -> AnnIndex:
        rows = [file.rows for file in vectors]
        with JoinedLists(paths, rows, self._spec, first_row) as joined:
            list_rows = ListRows(paths, vectors, first_row)
            own = IvfRabitqIndex(self._spec, self._coarse, self._rotation, joined, list_rows=list_rows)
            index = place(self._gpus if first_row == 0 else None, self._spec, sum(rows), own)
        give_back_memory()
        return index


class IvfRabitqIndex:
    """The lists of some segments, joined, in memory."""

    def __init__(
        self,
        spec: IndexSpec,
        coarse: CoarseIndex,
        rotation: NDArray[np.float32],
        joined: JoinedLists,
        *,
        list_rows: ListRows,
    ) -> None:
        self._list_rows = list_rows
        self._spec = spec
        self._coarse = coarse
        self._rotation = np.ascontiguousarray(rotation.T)
        self._lists = packed_lists(joined, spec.code_bytes, spec.code_bytes - spec.rotated_dimension // 8)
        self._codes = _fast_scan(spec, coarse)
        self._codes.replace_invlists(self._lists, False)
        self._codes.ntotal = int(joined.sizes.sum())
        self._tables = max(1, _TABLE_BYTES // (_TABLE_BYTES_A_DIMENSION * spec.rotated_dimension))

    def search(
        self, queries: NDArray[np.float32], depth: int, nprobe: int, accept: NDArray[np.uint8] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        use_threads(1)
        rotated = queries @ self._rotation
        return self._search(rotated, depth, self._coarse.probes(rotated, min(nprobe, self._spec.nlist)), accept)

    def probes(
        self, queries: NDArray[np.float32], nprobe: int, accept: NDArray[np.uint8] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        use_threads(1)
        return self._coarse.probes(queries @ self._rotation, min(nprobe, self._spec.nlist))

    def count_in_lists(self, accept: NDArray[np.uint8]) -> NDArray[np.int32]:
        return self._list_rows.count(accept, self._spec.nlist)

    def search_covering(
        self, queries: NDArray[np.float32], depth: int, cover: Cover
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        use_threads(1)
        rotated = queries @ self._rotation
        return self._search(rotated, depth, covering_lists(self._coarse, rotated, cover), cover.accept)

    def covering_probes(
        self, queries: NDArray[np.float32], cover: Cover
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        use_threads(1)
        return covering_lists(self._coarse, queries @ self._rotation, cover)

    def scan(
        self,
        queries: NDArray[np.float32],
        depth: int,
        probes: tuple[NDArray[np.float32], NDArray[np.int64]],
        accept: NDArray[np.uint8] | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return self._search(queries @ self._rotation, depth, probes, accept)

    def _search(
        self,
        rotated: NDArray[np.float32],
        depth: int,
        found_lists: tuple[NDArray[np.float32], NDArray[np.int64]],
        accept: NDArray[np.uint8] | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        products, lists = found_lists
        depth = min(self._spec.copies * depth, max(1, self._codes.ntotal))
        scores = np.empty((len(rotated), depth), np.float32)
        rows = np.empty((len(rotated), depth), np.int64)
        tables = self._tables
        step = max(1, tables // lists.shape[1])
        for start in range(0, len(rotated), step):
            part = slice(start, start + step)
            probes = [
                (np.ascontiguousarray(products[part, some]), np.ascontiguousarray(lists[part, some]))
                for some in (slice(at, at + tables) for at in range(0, lists.shape[1], tables))
            ]
            found = [search_lists(self._codes, rotated[part], depth, some, accept) for some in probes]
            scores[part], rows[part] = merged(found, [0] * len(found), depth)
        return scores, rows


def _fast_scan(spec: IndexSpec, coarse: CoarseIndex) -> Any:
    """FAISS's index of this kind without lists, over the centroids of `coarse`, which must outlive it."""
    index = faiss.IndexIVFRaBitQFastScan(
        coarse.exact, spec.rotated_dimension, spec.nlist, faiss.METRIC_INNER_PRODUCT, BLOCK, False, spec.bits
    )
    index.is_trained = True
    return index
