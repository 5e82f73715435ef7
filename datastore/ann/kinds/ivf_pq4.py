"""IVF with 4-bit product quantization, compared in registers: the kind for large datastores.

A vector x lies in the lists of one or two centroids c. Its code in each is a 4-bit product quantization of the rotated
residual R (x - c), R having orthonormal rows that keep what varies most. A query q scores it <q, c> + <R q, code>, so
one look-up table serves all lists, and FAISS's fast-scan layout compares 32 codes at once.

On disk codes lie list by list for each segment, so they need no encoding again when an index is opened over any set of
segments: that joins the lists, and lays them out for the registers. Both files are described in docs/FORMAT.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datastore.ann.clustering import assign, train_coarse
from datastore.ann.index import Cover
from datastore.ann.kinds.coarse import CoarseIndex
from datastore.ann.kinds.covering import ListRows, covering_lists
from datastore.ann.kinds.library import (
    CODEBOOK,
    MEND,
    faiss,
    give_back_memory,
    search_lists,
    train_codebooks,
    train_rotation,
    use_threads,
)
from datastore.ann.kinds.packed_lists import packed_lists
from datastore.ann.spec import IndexSpec
from datastore.errors import DataLoss

if TYPE_CHECKING:
    from datastore.store.vectors import VectorFile

_NO_DIRECTION = np.float32(1e-10)

_RESIDUALS = 32_768
"""Vectors whose residuals train rotation and codebooks."""


class IvfPq4Template:
    """Centroids, rotation and codebooks, trained once for the datastore."""

    exact = False

    def __init__(
        self, spec: IndexSpec, coarse: CoarseIndex, rotation: NDArray[np.float32], codebooks: NDArray[np.float32]
    ) -> None:
        self._spec = spec
        self._coarse = coarse
        self._rotation = rotation
        """float32 [2 * pq_m, dimension]."""
        self._codebooks = codebooks
        """float32 [pq_m, CODEBOOK, 2]."""

    @classmethod
    def load(cls, spec: IndexSpec, path: Path | None) -> IvfPq4Template:
        if path is None:
            raise DataLoss(f"the manifest names no template for the index {spec.kind}", mend=MEND)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                names = ("centroids", "coarse_codebooks", "rotation", "codebooks")
                centroids, coarse_codebooks, rotation, codebooks = (arrays[name] for name in names)
        except Exception as error:  # a damaged archive raises errors of many classes, those of zlib among them
            raise DataLoss(f"{path} cannot be read: {error}", mend=MEND) from None
        seen = (centroids.shape[::-1], rotation.shape, codebooks.shape)
        wanted = (
            (spec.dimension, spec.nlist),
            (2 * spec.pq_m, spec.dimension),
            (spec.pq_m, CODEBOOK, 2),
        )
        if seen != wanted:
            raise DataLoss(f"{path} has centroids, rotation and codebooks {seen}; wanted {wanted}", mend=MEND)
        return cls(spec, CoarseIndex(centroids, spec.seed, coarse_codebooks), rotation, codebooks)

    @classmethod
    def train(cls, spec: IndexSpec, sample: NDArray[np.float32]) -> IvfPq4Template:
        coarse = train_coarse(sample, spec.nlist, spec.seed)
        chosen = np.sort(np.random.default_rng(spec.seed).permutation(len(sample))[:_RESIDUALS])
        vectors = sample[chosen]
        lists = assign(coarse, vectors, spec.copies, spec.spill_weight)
        residuals = np.concatenate([vectors - coarse.centroids[lists[:, copy]] for copy in range(spec.copies)])
        rotation = train_rotation(residuals, 2 * spec.pq_m, spec.pq_m, spec.seed)
        return cls(spec, coarse, rotation, train_codebooks(residuals @ rotation.T, spec.pq_m, spec.seed))

    def save(self, path: Path) -> bool:
        with path.open("wb") as file:
            np.savez(
                file,
                centroids=self._coarse.centroids,
                coarse_codebooks=self._coarse.codebooks,
                rotation=self._rotation,
                codebooks=self._codebooks,
            )
        return True

    def write_segment(self, vectors: Iterable[NDArray[np.float16]], path: Path) -> bool:
        quantizer = faiss.ProductQuantizer(2 * self._spec.pq_m, self._spec.pq_m, 4)
        faiss.copy_array_to_vector(self._codebooks.reshape(-1), quantizer.centroids)
        lists, rows, codes = [np.empty(0, np.int64)], [np.empty(0, np.int64)], []
        start = 0
        for block in vectors:
            exact = block.astype(np.float32)
            assigned = assign(self._coarse, exact, self._spec.copies, self._spec.spill_weight)
            for copy in range(self._spec.copies):
                residuals = exact - self._coarse.centroids[assigned[:, copy]]
                codes.append(quantizer.compute_codes(np.ascontiguousarray(residuals @ self._rotation.T)))
                lists.append(assigned[:, copy])
                rows.append(np.arange(start, start + len(exact)))
            start += len(exact)
        _Entries(
            np.concatenate(lists),
            np.concatenate(rows),
            np.concatenate([np.empty((0, self._spec.code_bytes), np.uint8), *codes]),
        ).write(path, self._spec)
        return True

    def open(self, paths: Sequence[Path], vectors: Sequence[VectorFile]) -> IvfPq4Index:
        parts = [_Entries.read(path, self._spec, file.rows) for path, file in zip(paths, vectors, strict=True)]
        bases = np.cumsum([0, *(file.rows for file in vectors)])
        joined = _join(parts, bases, self._spec)
        del parts
        list_rows = ListRows(paths, vectors)
        index = IvfPq4Index(self._spec, self._coarse, self._rotation, self._codebooks, joined, list_rows=list_rows)
        del joined
        give_back_memory()
        return index


@dataclass(frozen=True, slots=True)
class _Entries:
    """Codes of passages, one for each copy: aligned arrays."""

    lists: NDArray[np.int64]
    rows: NDArray[np.int64]
    codes: NDArray[np.uint8]
    """[entries, code_bytes]."""

    def write(self, path: Path, spec: IndexSpec) -> None:
        """List by list, each by row: lengths of the lists, rows, codes."""
        order = np.lexsort((self.rows, self.lists))
        with path.open("wb") as file:
            file.write(np.bincount(self.lists, minlength=spec.nlist).astype("<u4").tobytes())
            file.write(self.rows[order].astype("<u4").tobytes())
            file.write(self.codes[order].tobytes())

    @classmethod
    def read(cls, path: Path, spec: IndexSpec, passages: int) -> _Entries:
        entries = spec.copies * passages
        wanted = 4 * spec.nlist + entries * (4 + spec.code_bytes)
        try:
            data = np.fromfile(path, np.uint8)
        except OSError as error:
            raise DataLoss(f"{path} cannot be read: {error.strerror}", mend=MEND) from None
        if len(data) != wanted:
            raise DataLoss(
                f"{path} has {len(data)} bytes; {entries} codes of {spec.code_bytes} bytes in {spec.nlist} lists "
                f"need {wanted}",
                mend=MEND,
            )
        lengths = data[: 4 * spec.nlist].view("<u4").astype(np.int64)
        rows = data[4 * spec.nlist : 4 * (spec.nlist + entries)].view("<u4").astype(np.int64)
        if lengths.sum() != entries or (entries and rows.max() >= passages):
            raise DataLoss(
                f"{path} has lists of {lengths.sum()} codes together, and rows up to {rows.max(initial=0)}; "
                f"wanted {entries} codes of rows below {passages}",
                mend=MEND,
            )
        codes = data[4 * (spec.nlist + entries) :].reshape(entries, spec.code_bytes)
        return cls(np.repeat(np.arange(spec.nlist), lengths), rows, codes)


def _join(parts: Sequence[_Entries], bases: NDArray[np.int64], spec: IndexSpec) -> _Entries:
    """The entries of several segments, list by list; rows count on from segment to segment."""
    if not parts:
        return _Entries(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, spec.code_bytes), np.uint8))
    lists = np.concatenate([part.lists for part in parts])
    order = np.argsort(lists, kind="stable")
    rows = np.concatenate([part.rows + base for part, base in zip(parts, bases, strict=False)])
    return _Entries(lists[order], rows[order], np.concatenate([part.codes for part in parts])[order])


class IvfPq4Index:
    """The lists of some segments, joined, in memory."""

    def __init__(
        self,
        spec: IndexSpec,
        coarse: CoarseIndex,
        rotation: NDArray[np.float32],
        codebooks: NDArray[np.float32],
        entries: _Entries,
        *,
        list_rows: ListRows,
    ) -> None:
        self._list_rows = list_rows
        self._coarse = coarse
        self._rotation = np.ascontiguousarray(rotation.T)
        self._copies = spec.copies
        self._nlist = spec.nlist
        bounds = np.searchsorted(entries.lists, np.arange(spec.nlist + 1))
        self._lists = packed_lists(entries.codes, entries.rows, bounds)
        self._codes = _over(self._lists, len(entries.rows), spec, codebooks)

    def search(
        self, queries: NDArray[np.float32], depth: int, nprobe: int, accept: NDArray[np.uint8] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        use_threads(1)
        return self._search(queries, depth, self._coarse.search(queries, min(nprobe, self._nlist)), accept)

    def count_in_lists(self, accept: NDArray[np.uint8]) -> NDArray[np.int32]:
        return self._list_rows.count(accept, self._nlist)

    def search_covering(
        self, queries: NDArray[np.float32], depth: int, cover: Cover
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        use_threads(1)
        return self._search(queries, depth, covering_lists(self._coarse, queries, cover), cover.accept)

    def _search(
        self,
        queries: NDArray[np.float32],
        depth: int,
        probes: tuple[NDArray[np.float32], NDArray[np.int64]],
        accept: NDArray[np.uint8] | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        rotated = queries @ self._rotation
        rotated[~rotated.any(axis=1), 0] = _NO_DIRECTION  # of look-up tables of nothing but zeros FAISS makes no scores
        depth = min(self._copies * depth, max(1, self._codes.ntotal))
        return search_lists(self._codes, rotated, depth, probes, accept)


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
