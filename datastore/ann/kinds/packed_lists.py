"""Inverted lists of codes laid out for FAISS's fast scan, in one piece of memory of exactly their size.

FAISS's own container for them rounds every list up to a power of two bytes, which costs two fifths more. So the lists
are laid out in memory, one after the other, each as blocks of 32 codes and then its rows, and FAISS takes that for
lists on disk that it has mapped.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datastore.ann.kinds.joined_lists import JoinedLists
from datastore.ann.kinds.library import faiss, pointer
from datastore.errors import ResourceExhausted

BLOCK = 32
"""Codes compared at once."""
_ROW_BYTES = 8


def packed_lists(joined: JoinedLists, code_bytes: int, tail_bytes: int = 0) -> Any:
    """FAISS's inverted lists of codes of two sub-quantizers a byte; beside them a small part of `joined` is held.

    Args:
        tail_bytes: the last of each code, which are no sub-quantizers: those of 32 codes follow the block of these.
    """
    head_bytes = code_bytes - tail_bytes
    sizes = joined.sizes
    nlist = len(sizes)
    capacities = (sizes + BLOCK - 1) // BLOCK * BLOCK
    offsets = np.concatenate([[0], np.cumsum(capacities * (code_bytes + _ROW_BYTES))])
    memory = _anonymous_memory(max(int(offsets[-1]), 1))
    lists = faiss.OnDiskInvertedLists(nlist, code_bytes, "")
    lists.ptr, lists.totsize, lists.read_only = pointer(memory), len(memory), True
    # Its table of (size, capacity, offset) cannot be written through the binding, which hands out copies.
    address = int(lists.lists.data().this)
    table = np.ctypeslib.as_array((ctypes.c_size_t * (3 * nlist)).from_address(address)).reshape(nlist, 3)
    table[:, 0], table[:, 1], table[:, 2] = sizes, capacities, offsets[:-1]
    for part in joined.ranges():
        packed_index = _pack(np.ascontiguousarray(part.codes[:, :head_bytes]), part.rows, part.bounds)
        blocks = faiss.downcast_InvertedLists(packed_index.invlists)
        for number in np.flatnonzero(np.diff(part.bounds)).tolist():
            entries = slice(part.bounds[number], part.bounds[number + 1])
            start, capacity = int(offsets[part.first + number]), int(capacities[part.first + number])
            end = start + capacity * code_bytes
            heads = faiss.rev_swig_ptr(blocks.get_codes(number), capacity * head_bytes)
            memory[start:end] = _with_tails(heads, part.codes[entries, head_bytes:]) if tail_bytes else heads
            own = part.rows[entries].view(np.uint8)
            memory[end : end + len(own)] = own
    return lists


def _with_tails(heads: NDArray[np.uint8], tails: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Whole blocks of heads, each followed by its tails of [entries, tail_bytes]; zeros after the last."""
    blocks = (len(tails) + BLOCK - 1) // BLOCK
    filled = np.zeros((blocks * BLOCK, tails.shape[1]), np.uint8)
    filled[: len(tails)] = tails
    return np.concatenate([heads.reshape(blocks, -1), filled.reshape(blocks, -1)], axis=1).reshape(-1)


def _pack(codes: NDArray[np.uint8], rows: NDArray[np.int64], bounds: NDArray[np.int64]) -> Any:
    """An index of FAISS's over some lists, one after the other in `codes` and `rows`, which lays them out."""
    sub_quantizers = 2 * codes.shape[1]
    count = len(bounds) - 1
    plain = faiss.IndexIVFPQ(
        faiss.IndexFlatIP(sub_quantizers), sub_quantizers, count, sub_quantizers, 4, faiss.METRIC_INNER_PRODUCT
    )
    plain.is_trained = True
    for number in range(count):
        start, end = int(bounds[number]), int(bounds[number + 1])
        if start < end:
            plain.invlists.add_entries(number, end - start, pointer(rows[start:end]), pointer(codes[start:end]))
    plain.ntotal = int(bounds[-1] - bounds[0])
    return faiss.IndexIVFPQFastScan(plain)


def _anonymous_memory(size: int) -> NDArray[np.uint8]:
    """Zeroed bytes, in huge pages where the system grants them: lists lie far apart, and each would miss a small page.

    They are never freed here. FAISS's lists on disk unmap what they hold when they go, so they take these over.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    address = libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
    if address == ctypes.c_void_p(-1).value:
        raise ResourceExhausted(
            f"{size} bytes of memory for the codes were refused: {os.strerror(ctypes.get_errno())}",
            mend="serve fewer segments with this process (--shard), or give it more memory",
        )
    if hasattr(mmap, "MADV_HUGEPAGE"):
        libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        libc.madvise(address, size, mmap.MADV_HUGEPAGE)  # advice: a system that has none of them says no
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
