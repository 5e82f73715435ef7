"""Indexes in the memory of GPUs, beside those in main memory that answer what GPUs do not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datastore.ann.gpu_plan import GpuPlan, build_bytes, require_memory, search_plan
from datastore.ann.index import AnnIndex, CoveringIndex
from datastore.ann.kinds.coarse import CoarseIndex
from datastore.ann.kinds.gpu import CoarseOnGpus, FlatShards, Found, Gpus, ListShards
from datastore.ann.kinds.joined_lists import JoinedLists
from datastore.ann.kinds.library import CODEBOOK, faiss, pointer
from datastore.ann.spec import IndexSpec
from datastore.errors import ResourceExhausted

if TYPE_CHECKING:
    from datastore.store.vectors import VectorFile

logger = logging.getLogger(__name__)


class OnGpus:
    """An index whose codes lie on GPUs; thread-safe.

    FAISS's kernels know no filters, and select a limited number of lists and results: what they cannot do is done by
    `host`, the same index in main memory.
    """

    def __init__(self, host: AnnIndex, shards: FlatShards | ListShards, spec: IndexSpec) -> None:
        self.host = host
        self._shards = shards
        self._copies = spec.copies
        self._nlist = spec.nlist

    def search(self, queries: NDArray[np.float32], depth: int, nprobe: int, accept: NDArray[np.uint8] | None) -> Found:
        entries, lists = self._copies * depth, min(nprobe, self._nlist)
        if accept is not None or not self._shards.can(entries, lists):
            return self.host.search(queries, depth, nprobe, accept)
        return self._shards.search(queries, entries, lists)


class CoveringOnGpus(OnGpus):
    """The same of an index that knows which of its lists hold what a filter leaves."""

    def __init__(self, host: CoveringIndex, shards: FlatShards | ListShards, spec: IndexSpec) -> None:
        super().__init__(host, shards, spec)
        self.count_in_lists = host.count_in_lists
        self.search_covering = host.search_covering


def place(
    gpus: Gpus | None,
    spec: IndexSpec,
    passages: int,
    host: AnnIndex,
    load: Callable[[Gpus, GpuPlan], FlatShards | ListShards] | None = None,
) -> AnnIndex:
    """`host` on GPUs too, where there are any, FAISS can search its kind there, and it fits; otherwise `host`.

    Args:
        load: copies the codes there; None for a kind that has no plan, so that people are told.

    Raises:
        ResourceExhausted: GPUs were asked for and have not enough memory free.
    """
    if gpus is None or passages == 0:
        return host
    plan = search_plan(spec, passages, len(gpus.numbers))
    if isinstance(plan, str):
        logger.warning("the index is searched on the CPU: %s", plan)
        return host
    if not fits(gpus, plan.device_bytes, f"searching the index, {spec.describe()} of {passages} passages,"):
        return host
    assert load is not None, f"{spec.kind} has a plan and no way to load it"
    shards = load(gpus, plan)
    return CoveringOnGpus(host, shards, spec) if isinstance(host, CoveringIndex) else OnGpus(host, shards, spec)


def fits(gpus: Gpus, need: int, what: str) -> bool:
    """Whether every device has `need` bytes free; where not, that is an error if GPUs were asked for, or else noted."""
    try:
        require_memory(need, gpus.free(), what)
    except ResourceExhausted as error:
        if gpus.required:
            raise
        logger.warning("the CPU is used: %s", error.problem)
        return False
    return True


def for_building(gpus: Gpus | None, spec: IndexSpec) -> Gpus | None:
    """`gpus` where they can train an index and put vectors into its lists; None for the CPU."""
    if gpus is None or spec.nlist == 0 or not fits(gpus, build_bytes(spec), f"building the index, {spec.describe()},"):
        return None
    return gpus


def assigner(gpus: Gpus | None, spec: IndexSpec, centroids: NDArray[np.float32]) -> CoarseOnGpus | None:
    """What puts vectors into lists, on GPUs; None for the CPU."""
    building = for_building(gpus, spec)
    return None if building is None else building.coarse(centroids)


def load_flat(gpus: Gpus, vectors: Sequence[VectorFile]) -> FlatShards:
    """All vectors, the first to the first device and so on."""
    for file in vectors:
        file.check()
    bases = np.cumsum([0, *(file.rows for file in vectors)]).tolist()
    bounds = np.linspace(0, bases[-1], len(gpus.numbers) + 1).astype(int).tolist()

    def parts() -> Iterator[NDArray[np.float16]]:
        for start, end in pairwise(bounds):
            yield np.concatenate(
                [
                    file.matrix[max(start - base, 0) : max(end - base, 0)]
                    for file, base in zip(vectors, bases, strict=False)
                ]
            )

    return gpus.flat_shards(vectors[0].dimension, parts())


def load_byte_codes(gpus: Gpus, plan: GpuPlan, trained: Any, whole: Any) -> ListShards:
    """A FAISS IndexIVFPQ with 8-bit codes, its passages shared out by their rows; `trained` is one without codes."""

    def parts() -> Iterator[Any]:
        if plan.devices == 1:
            yield whole
            return
        for device in range(plan.devices):
            part = faiss.clone_index(trained)
            whole.copy_subset_to(part, faiss.InvertedLists.SUBSET_TYPE_ID_MOD, plan.devices, device)
            yield part

    coarse = gpus.coarse(trained.quantizer.reconstruct_n(0, trained.nlist))
    return ListShards(coarse, gpus.lists(parts(), plan, False), gpus.lock)


def load_half_byte_codes(
    gpus: Gpus,
    plan: GpuPlan,
    byte_lists: ByteLists,
    joined: JoinedLists,
) -> ListShards:
    """4-bit codes as the 8-bit ones that they are, two a byte; the passages shared out by their rows."""
    parts = (byte_lists.index(joined, device, plan.devices) for device in range(plan.devices))
    placed = gpus.lists(parts, plan, True)
    coarse = gpus.coarse(byte_lists.coarse.centroids, byte_lists.coarse.margins)
    return ListShards(coarse, placed, gpus.lock, byte_lists.project)


class ByteLists:
    """What makes a FAISS IndexIVFPQ of 8 bits of codes with two 4-bit sub-quantizers a byte.

    Args:
        code_bytes: of a code in the index; zeros follow the code where it is shorter.
    """

    def __init__(
        self, coarse: CoarseIndex, rotation: NDArray[np.float32], codebooks: NDArray[np.float32], code_bytes: int
    ) -> None:
        self.coarse = coarse
        self._code_bytes = code_bytes
        self._projection = np.zeros((coarse.centroids.shape[1], 4 * code_bytes), np.float32)
        self._projection[:, : len(rotation)] = rotation.T
        # With a list more, for those that a query has fewer than others of its batch.
        self._centroids = np.pad(self.project(coarse.centroids), ((0, 1), (0, 0)))
        self._codebooks = np.zeros((code_bytes, CODEBOOK * CODEBOOK, 4), np.float32)
        self._codebooks[: len(codebooks) // 2] = paired(codebooks)

    def project(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [n, dimension] to what codes are of, float32 [n, 4 * code_bytes]."""
        projected: NDArray[np.float32] = vectors @ self._projection
        return projected

    def index(self, joined: JoinedLists, part: int, parts: int) -> Any:
        """Of the passages whose row leaves `part` when divided by `parts`."""
        nlist, dimension = self._centroids.shape
        quantizer = faiss.IndexFlatIP(dimension)
        quantizer.add(self._centroids)
        index = faiss.IndexIVFPQ(quantizer, dimension, nlist, self._code_bytes, 8, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(self._codebooks.reshape(-1), index.pq.centroids)
        index.is_trained = True
        for some in joined.ranges():
            mine = np.flatnonzero(some.rows % parts == part)
            bounds = np.searchsorted(mine, some.bounds)
            rows = some.rows[mine]
            codes = np.zeros((len(mine), self._code_bytes), np.uint8)
            codes[:, : some.codes.shape[1]] = some.codes[mine]
            for number in np.flatnonzero(np.diff(bounds)).tolist():
                own = slice(int(bounds[number]), int(bounds[number + 1]))
                count = own.stop - own.start
                index.invlists.add_entries(some.first + number, count, pointer(rows[own]), pointer(codes[own]))
            index.ntotal += len(rows)
        return index


def paired(codebooks: NDArray[np.float32]) -> NDArray[np.float32]:
    """The centroids of bytes, of those of their halves: float32 [m, CODEBOOK, d] to [m / 2, CODEBOOK^2, 2 d].

    The lower four bits are the first half, as FAISS packs them.
    """
    low, high = codebooks[0::2], codebooks[1::2]
    pairs: NDArray[np.float32] = np.concatenate(
        [np.tile(low, (1, CODEBOOK, 1)), np.repeat(high, CODEBOOK, axis=1)], axis=2
    )
    return pairs
