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
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datastore.ann.kinds.joined_lists import JoinedLists, ListRange
from datastore.ann.kinds.library import faiss, pointer

BLOCK = 32
"""Codes compared at once."""
_ROW_BYTES = 8


def packed_lists(joined: JoinedLists, code_bytes: int, pack: Callable[[ListRange], Any]) -> Any:
    """FAISS's inverted lists of these codes; beside them a small part of `joined` is held.

    Args:
        pack: gives an index of FAISS's over some lists, from 0 on, which has laid them out.
    """
    sizes = joined.sizes
    nlist = len(sizes)
    capacities = (sizes + BLOCK - 1) // BLOCK * BLOCK
    offsets = np.concatenate([[0], np.cumsum(capacities * (code_bytes + _ROW_BYTES))])
    with _memory_file(max(int(offsets[-1]), 1)) as (name, memory):
        for part in joined.ranges():
            packed_index = pack(part)
            blocks = faiss.downcast_InvertedLists(packed_index.invlists)
            for number in np.flatnonzero(np.diff(part.bounds)).tolist():
                start, packed = int(offsets[part.first + number]), int(capacities[part.first + number]) * code_bytes
                memory[start : start + packed] = faiss.rev_swig_ptr(blocks.get_codes(number), packed)
                own = part.rows[part.bounds[number] : part.bounds[number + 1]].view(np.uint8)
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


def pack_pq4(part: ListRange) -> Any:
    """For codes of 4-bit sub-quantizers, two a byte."""
    sub_quantizers = 2 * part.codes.shape[1]
    plain = faiss.IndexIVFPQ(
        faiss.IndexFlatIP(sub_quantizers),
        sub_quantizers,
        len(part.bounds) - 1,
        sub_quantizers,
        4,
        faiss.METRIC_INNER_PRODUCT,
    )
    add_entries(plain, part)
    return faiss.IndexIVFPQFastScan(plain)


def add_entries(index: Any, part: ListRange) -> None:
    """Put lists, from 0 on, into an empty index of FAISS's that does not lay them out."""
    index.is_trained = True
    for number, (start, end) in enumerate(pairwise(part.bounds.tolist())):
        if start < end:
            rows, codes = part.rows[start:end], part.codes[start:end]
            index.invlists.add_entries(number, end - start, pointer(rows), pointer(codes))
    index.ntotal = len(part.rows)


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
