"""Inverted lists of codes laid out for FAISS's fast scan, in one piece of memory of exactly their size.

FAISS's own container for them rounds every list up to a power of two bytes, which costs two fifths more. So the lists
are laid out in an anonymous file in memory, one after the other, each as blocks of 32 codes and then its rows, and
FAISS maps that as if it were lists on disk.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datastore.ann.kinds.library import faiss, pointer

BLOCK = 32
"""Codes compared at once."""
_LISTS_AT_ONCE = 256


Pack = Callable[[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]], Any]
"""Of codes, rows and bounds an index of FAISS's over those lists, which lays them out."""


def packed_lists(codes: NDArray[np.uint8], rows: NDArray[np.int64], bounds: NDArray[np.int64], pack: Pack) -> Any:
    """FAISS's inverted lists of uint8 [entries, code_bytes] and int64 [entries], laid out by `pack`.

    List i has the entries `bounds[i]` to `bounds[i + 1]`.
    """
    nlist, code_bytes = len(bounds) - 1, codes.shape[1]
    sizes = np.diff(bounds)
    capacities = (sizes + BLOCK - 1) // BLOCK * BLOCK
    offsets = np.concatenate([[0], np.cumsum(capacities * (code_bytes + rows.itemsize))])
    with _memory_file(max(int(offsets[-1]), 1)) as (name, memory):
        for first in range(0, nlist, _LISTS_AT_ONCE):
            last = min(first + _LISTS_AT_ONCE, nlist)
            packed_index = pack(codes, rows, bounds[first : last + 1])
            blocks = faiss.downcast_InvertedLists(packed_index.invlists)
            for number in (first + np.flatnonzero(sizes[first:last])).tolist():
                start, packed = int(offsets[number]), int(capacities[number]) * code_bytes
                memory[start : start + packed] = faiss.rev_swig_ptr(blocks.get_codes(number - first), packed)
                own = rows[bounds[number] : bounds[number + 1]].view(np.uint8)
                memory[start + packed : start + packed + len(own)] = own
        lists = faiss.OnDiskInvertedLists(nlist, code_bytes, name)
        # Its table of (size, capacity, offset) cannot be written through the binding, which hands out copies.
        address = int(lists.lists.data().this)
        table = np.ctypeslib.as_array((ctypes.c_size_t * (3 * nlist)).from_address(address)).reshape(nlist, 3)
        table[:, 0], table[:, 1], table[:, 2] = sizes, capacities, offsets[:-1]
        lists.totsize = len(memory)
        lists.read_only = True
        lists.do_mmap()
    return lists


def pack_pq4(codes: NDArray[np.uint8], rows: NDArray[np.int64], bounds: NDArray[np.int64]) -> Any:
    """For codes of 4-bit sub-quantizers, two a byte."""
    sub_quantizers = 2 * codes.shape[1]
    plain = faiss.IndexIVFPQ(
        faiss.IndexFlatIP(sub_quantizers),
        sub_quantizers,
        len(bounds) - 1,
        sub_quantizers,
        4,
        faiss.METRIC_INNER_PRODUCT,
    )
    add_entries(plain, codes, rows, bounds)
    return faiss.IndexIVFPQFastScan(plain)


def add_entries(index: Any, codes: NDArray[np.uint8], rows: NDArray[np.int64], bounds: NDArray[np.int64]) -> None:
    """Put lists, one after the other in `codes` and `rows`, into an empty index of FAISS's."""
    index.is_trained = True
    for number in range(len(bounds) - 1):
        start, end = int(bounds[number]), int(bounds[number + 1])
        if start < end:
            index.invlists.add_entries(number, end - start, pointer(rows[start:end]), pointer(codes[start:end]))
    index.ntotal = int(bounds[-1] - bounds[0])


@contextmanager
def _memory_file(size: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """A file of `size` bytes that goes with its last mapping: its name, for now, and its bytes."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("pergamon-codes")
        name, unlink = f"/proc/self/fd/{descriptor}", False
    else:
        descriptor, name = tempfile.mkstemp(prefix="pergamon-codes-")
        unlink = True
    try:
        os.ftruncate(descriptor, size)
        yield name, np.frombuffer(mmap.mmap(descriptor, size), np.uint8)
    finally:
        os.close(descriptor)
        if unlink:
            os.unlink(name)  # noqa: PTH108 - of a name that mkstemp gave
