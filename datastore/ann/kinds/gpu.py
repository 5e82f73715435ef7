"""CUDA devices as FAISS has them: which there are, what is free on them, and indexes that lie on them.

What is here takes FAISS indexes of either kind, on a device or not, as both answer the same calls; only `Gpus` needs a
device. FAISS's resources of a device serve one call at a time, so one lock is held for all devices of a `Gpus`.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datastore.ann.gpu_plan import SELECTED_MAX, TEMPORARY_BYTES, GpuPlan
from datastore.ann.kinds.library import faiss, merged, search_lists
from datastore.ann.kinds.probing import Probing
from datastore.devices import DeviceChoice
from datastore.errors import FailedPrecondition, ResourceExhausted

Found = tuple[NDArray[np.float32], NDArray[np.int64]]
"""(scores, rows), both [queries, found]; rows are -1 beyond what was found."""

INSTALL = "install FAISS for GPUs with `make install-gpu` (docs/gpu.md), or use --device cpu"


def open_gpus(choice: DeviceChoice) -> Gpus | None:
    """The devices that FAISS is to use, or None for the CPU. Raises what `find_gpus` raises."""
    numbers = find_gpus(choice)
    return Gpus(numbers, choice.kind == "cuda") if numbers else None


def find_gpus(choice: DeviceChoice) -> tuple[int, ...]:
    """The devices that FAISS is to use; none for the CPU.

    Raises:
        FailedPrecondition: one that was asked for is not there, or FAISS was built without GPU support.
    """
    if not hasattr(faiss, "StandardGpuResources"):
        return choice.among(0, library="FAISS", why_none="it is installed without GPU support", mend=INSTALL)
    return choice.among(
        faiss.get_num_gpus(),
        library="FAISS",
        why_none="no CUDA device answers",
        mend="see what nvidia-smi says of device and driver, or use --device cpu",
    )


def free_bytes(number: int) -> int:
    """Of a device's memory, as its driver says."""
    runtime = ctypes.CDLL(None)  # FAISS for GPUs has loaded CUDA's runtime for all
    before, free, total = ctypes.c_int(), ctypes.c_size_t(), ctypes.c_size_t()
    calls: list[Callable[[], int]] = [
        lambda: runtime.cudaGetDevice(ctypes.byref(before)),
        lambda: runtime.cudaSetDevice(ctypes.c_int(number)),
        lambda: runtime.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total)),
        lambda: runtime.cudaSetDevice(before),
    ]
    for call in calls:
        if (status := call()) != 0:
            runtime.cudaGetErrorString.restype = ctypes.c_char_p
            reason = runtime.cudaGetErrorString(status).decode(errors="replace")
            raise FailedPrecondition(
                f"cuda:{number} does not say how much memory is free: {reason}",
                mend="see what nvidia-smi says of device and driver, or use --device cpu",
                field="device",
            )
    return free.value


class FlatShards:
    """Exact inner products with vectors spread over some flat FAISS indexes, one after the other; thread-safe."""

    def __init__(self, indexes: Sequence[Any], lock: threading.Lock) -> None:
        self._indexes = indexes
        self._bases = np.cumsum([0, *(index.ntotal for index in indexes)]).tolist()
        self._lock = lock

    def can(self, depth: int, nprobe: int) -> bool:
        """Whether FAISS's kernels select so many."""
        return depth <= SELECTED_MAX

    def search(self, queries: NDArray[np.float32], depth: int, nprobe: int) -> Found:
        """The best `depth`, or all."""

        def ask(index: Any) -> Found:
            scores, rows = index.search(queries, min(depth, max(1, index.ntotal)))
            return scores, rows

        with self._lock, device_errors():
            return merged(_each(ask, self._indexes), self._bases, depth)


class CoarseOnGpus:
    """The nearest of a coarse level's centroids by a flat FAISS index of them, all compared exactly; thread-safe.

    Args:
        margins: by which probes are spread over queries (see `Probing`); None gives every query as many.
    """

    def __init__(
        self, centroids: NDArray[np.float32], index: Any, lock: threading.Lock, margins: NDArray[np.float32] | None
    ) -> None:
        self.centroids = centroids
        self._index = index
        self._lock = lock
        self._probing = None if margins is None else Probing(margins, len(centroids))

    def looked_at(self, nprobe: int) -> int:
        """Centroids that `probes` looks for."""
        return nprobe if self._probing is None else self._probing.looked_at(nprobe)

    def probes(self, queries: NDArray[np.float32], nprobe: int) -> Found:
        """(inner products, lists), both [n, some], best first: about `nprobe` for each query, then -1."""
        found = self.search(queries, self.looked_at(nprobe))
        return found if self._probing is None else self._probing.chosen(*found, nprobe)

    def search(self, vectors: NDArray[np.float32], nprobe: int) -> Found:
        """(inner products, lists), both [n, nprobe], best first, for nprobe <= nlist and SELECTED_MAX."""
        with self._lock, device_errors():
            products, lists = self._index.search(np.ascontiguousarray(vectors, np.float32), nprobe)
        return products, lists


class ListShards:
    """Inverted lists of a datastore's codes, the passages shared out over some IVF indexes of FAISS; thread-safe.

    Args:
        coarse: gives the lists.
        indexes: each has all lists, and in them a share of the passages by their rows. Where `coarse` spreads probes
            over queries they have one list more, empty, for those that a query has fewer.
        project: float32 [n, dimension] of queries to what the indexes' codes are of.
    """

    def __init__(
        self,
        coarse: CoarseOnGpus,
        indexes: Sequence[Any],
        lock: threading.Lock,
        project: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda queries: queries,
    ) -> None:
        self._coarse = coarse
        self._indexes = indexes
        self._lock = lock
        self._project = project

    def can(self, depth: int, nprobe: int) -> bool:
        """Whether FAISS's kernels select so many."""
        return max(depth, self._coarse.looked_at(nprobe)) <= SELECTED_MAX

    def search(self, queries: NDArray[np.float32], depth: int, nprobe: int) -> Found:
        """The best `depth` entries of about `nprobe` lists, as many as `can`."""
        products, lists = self._coarse.probes(queries, nprobe)
        probes = products, np.where(lists < 0, len(self._coarse.centroids), lists)
        projected = np.ascontiguousarray(self._project(queries), np.float32)

        def ask(index: Any) -> Found:
            return search_lists(index, projected, depth, probes, None)

        with self._lock, device_errors():
            return merged(_each(ask, self._indexes), [0] * len(self._indexes), depth)


class Gpus:
    """Some devices, each with FAISS's resources on it.

    Args:
        required: whether they were asked for, so that it is an error if something does not fit.
    """

    def __init__(self, numbers: Sequence[int], required: bool) -> None:
        self.numbers = tuple(numbers)
        self.required = required
        self.lock = threading.Lock()
        self._resources = [faiss.StandardGpuResources() for _ in numbers]
        for resources in self._resources:
            resources.setTempMemory(TEMPORARY_BYTES)

    def free(self) -> dict[int, int]:
        """Device -> free bytes."""
        return {number: free_bytes(number) for number in self.numbers}

    def flat(self, dimension: int) -> Any:
        """An empty flat index of inner products that is on every device; they share the queries."""
        with device_errors():
            copies = [self._make_flat(dimension, place) for place in range(len(self.numbers))]
        if len(copies) == 1:
            return copies[0]
        index = faiss.IndexReplicas(dimension)
        for copy in copies:
            index.addIndex(copy)
        return index

    def coarse(self, centroids: NDArray[np.float32], margins: NDArray[np.float32] | None = None) -> CoarseOnGpus:
        """float32 [nlist, dimension], on every device."""
        index = self.flat(centroids.shape[1])
        with self.lock, device_errors():
            index.add(np.ascontiguousarray(centroids, np.float32))
        return CoarseOnGpus(centroids, index, self.lock, margins)

    def flat_shards(self, dimension: int, parts: Iterable[NDArray[np.float16]]) -> FlatShards:
        """float16 [n, dimension] for each device, in order. They are held as float32: a search with float16 would round
        the queries too, and a scan of everything is to miss nothing."""
        indexes = []
        for place, part in enumerate(parts):
            with device_errors():
                indexes.append(self._make_flat(dimension, place))
                indexes[-1].add(part.astype(np.float32))
        return FlatShards(indexes, self.lock)

    def lists(self, parts: Iterable[Any], plan: GpuPlan, own_products: bool) -> list[Any]:
        """A FAISS IndexIVFPQ for each device, copied there one after another.

        Args:
            own_products: the products of queries and centroids come with each search, and are not those of the
                centroids that the index has.
        """
        placed = []
        for place, part in enumerate(parts):
            with device_errors():
                placed.append(self._copy_lists(part, place, plan, own_products))
        return placed

    def _make_flat(self, dimension: int, place: int) -> Any:
        config = faiss.GpuIndexFlatConfig()
        config.device = self.numbers[place]
        return faiss.GpuIndexFlatIP(self._resources[place], dimension, config)

    def _copy_lists(self, part: Any, place: int, plan: GpuPlan, own_products: bool) -> Any:
        config = faiss.GpuIndexIVFPQConfig()
        config.device = self.numbers[place]
        config.indicesOptions = faiss.INDICES_32_BIT if plan.row_bytes == 4 else faiss.INDICES_64_BIT
        config.useFloat16LookupTables = plan.float16_tables
        # Tables made by matrix products have the products given added; otherwise they are computed anew.
        config.useMMCodeDistance = own_products
        return faiss.GpuIndexIVFPQ(self._resources[place], part, config)


def _each(ask: Callable[[Any], Found], indexes: Sequence[Any]) -> list[Found]:
    if len(indexes) == 1:
        return [ask(indexes[0])]
    with ThreadPoolExecutor(len(indexes)) as pool:
        return list(pool.map(ask, indexes))


@contextmanager
def device_errors() -> Iterator[None]:
    """Turn FAISS's complaints about a device into ours: nearly always its memory is taken by somebody else."""
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())[-300:]
        raise ResourceExhausted(
            f"a GPU failed: {reason}", mend="free the device's memory, or use --device cpu", field="device"
        ) from None
