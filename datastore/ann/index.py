"""Approximate nearest neighbours over the segments of a shard: what the rest of the house sees of FAISS."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from datastore.ann.spec import IndexSpec
from datastore.devices import CPU, DeviceChoice

if TYPE_CHECKING:
    from datastore.ann.kinds.compact import CompactQuantizer
    from datastore.store.vectors import VectorFile


class AnnIndex(Protocol):
    """The codes of some segments, open; thread-safe. Rows count on from segment to segment."""

    def search(
        self, queries: NDArray[np.float32], depth: int, nprobe: int, accept: NDArray[np.uint8] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(approximate scores, rows), each [queries, found], of the best `depth` passages of each query at least.

        Rows are -1 beyond what was found, and a passage may come as often as it lies in lists. `accept` is a bitmap
        of rows, bit `r % 8` of byte `r // 8`; None takes all.
        """
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Cover:
    """How far a filtered search goes: to the nearest lists that together hold so many codes of accepted passages."""

    accept: NDArray[np.uint8]
    """A bitmap of rows."""
    in_lists: NDArray[np.int32]
    """[nlist], codes of accepted passages in each list: `CoveringIndex.count_in_lists`."""
    codes: int


@runtime_checkable
class CoveringIndex(AnnIndex, Protocol):
    """An index that knows which of its lists hold what a filter leaves."""

    def count_in_lists(self, accept: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Codes of accepted passages in each list, [nlist]: one pass over all of them."""
        ...

    def search_covering(
        self, queries: NDArray[np.float32], depth: int, cover: Cover
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """As `search`, in as many lists for each query as `cover` says, lists without accepted passages left out."""
        ...


class Template(Protocol):
    """The trained part that all segments of a datastore share."""

    @property
    def exact(self) -> bool:
        """Whether a search misses nothing, so that its order can be made exact by looking deeper."""
        ...

    def save(self, path: Path) -> bool:
        """Write it; False where there is nothing to write."""
        ...

    def write_segment(self, vectors: Iterable[NDArray[np.float16]], path: Path) -> bool:
        """Encode the rows of a segment in order and write its codes; False where the exact vectors serve as codes."""
        ...

    def write_merged(self, paths: Sequence[Path], passages: Sequence[int], rows: NDArray[np.int64], path: Path) -> bool:
        """Write the codes of some segments as those of one, as they are; False where there are none.

        Args:
            passages: of each segment.
            rows: of each of their rows, counting on from segment to segment, the new one; -1 for what is left out.
        """
        ...

    @property
    def joins(self) -> bool:
        """Whether opening takes time by the number of codes, so that an open index is worth keeping."""
        ...

    def open(self, paths: Sequence[Path], vectors: Sequence[VectorFile], first_row: int = 0) -> AnnIndex:
        """The codes of these segments as one index.

        Args:
            first_row: of the first segment, where they come after others that are open: then only in main memory.
        """
        ...


@runtime_checkable
class ListTemplate(Template, Protocol):
    """A template with lists."""

    def nearest_products(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Inner product of each of float32 [n, dimension] with the centroid nearest to it."""
        ...


def candidates(
    index: AnnIndex,
    queries: NDArray[np.float32],
    depth: int,
    nprobe: int,
    accept: NDArray[np.uint8] | Cover | None = None,
) -> list[NDArray[np.int64]]:
    """For each of float32 [n, dimension] the rows of its best candidates, ascending, each once.

    About `depth` of them, or fewer where fewer are found: FAISS pads with -1, and this is the one place where that is
    dropped. A cover, only for a `CoveringIndex`, says how many lists are read; otherwise `nprobe` does.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    if isinstance(accept, Cover):
        assert isinstance(index, CoveringIndex)
        _, found = index.search_covering(queries, depth, accept)
    else:
        _, found = index.search(queries, depth, nprobe, accept)
    found = np.sort(found, axis=1)
    distinct = found >= 0
    distinct[:, 1:] &= found[:, 1:] != found[:, :-1]
    return [rows[keep] for rows, keep in zip(found, distinct, strict=True)]


def check_device(device: DeviceChoice) -> None:
    """Raise FailedPrecondition unless FAISS has what was asked for: before the long work that needs it at its end."""
    if device.kind == "cuda":  # nothing else can be missing, and FAISS need not be loaded yet
        from datastore.ann.kinds.gpu import find_gpus

        find_gpus(device)


def load_template(spec: IndexSpec, path: Path | None, device: DeviceChoice = CPU) -> Template:
    """The template that `spec` describes; `path` is its file, where its kind has one.

    Args:
        device: where the indexes that it opens are searched, as far as FAISS can do that on a GPU.

    Raises:
        FailedPrecondition: a device that was asked for is not there.
    """
    from datastore.ann.kinds.gpu import open_gpus
    from datastore.ann.kinds.registry import TEMPLATES

    return TEMPLATES[spec.kind].load(spec, path, open_gpus(device))


def train_template(spec: IndexSpec, sample: NDArray[np.float32], device: DeviceChoice = CPU) -> Template:
    """Train on float32 [n, dimension], with the seed of `spec`: the same sample gives the same template.

    Args:
        device: where lists are trained, and vectors put into them. GPUs compare exactly where the CPU compares many
            centroids by codes first, so theirs are other centroids, as good (docs/gpu.md).

    Raises:
        FailedPrecondition: a device that was asked for is not there.
        ResourceExhausted: one that was asked for has too little memory free.
    """
    from datastore.ann.kinds.gpu import open_gpus
    from datastore.ann.kinds.library import use_all_threads
    from datastore.ann.kinds.registry import TEMPLATES

    use_all_threads()
    return TEMPLATES[spec.kind].train(spec, sample, open_gpus(device))


def write_codes(template: Template, vectors: Iterable[NDArray[np.float16]], path: Path) -> bool:
    """`template.write_segment`, on as many threads as training has."""
    from datastore.ann.kinds.library import use_all_threads

    use_all_threads()
    return template.write_segment(vectors, path)


def compact_quantizer(sample: NDArray[np.float32]) -> CompactQuantizer | None:
    """Encodes a few of many vectors like the sample, float32 [n, dimension], to be scanned by themselves.

    None for dimensions that it does not fit.
    """
    from datastore.ann.kinds.compact import CompactQuantizer

    return CompactQuantizer(sample) if sample.shape[1] % 4 == 0 and len(sample) else None
