"""Bytes of an index in memory and on disk, counted from the layout itself: arithmetic, no estimates.

Each function says whose layout it counts; `tests/datastore/plan` compares with real ones.
"""

from __future__ import annotations

from collections.abc import Mapping

from datastore.ann.gpu_plan import CODE_BYTES
from datastore.ann.spec import IndexSpec
from datastore.store.block_sums import BLOCK_ROWS

Parts = Mapping[str, float]
"""Name -> bytes."""

BLOCK = 32
"""Codes that fast scan compares at once: lists are padded to it."""
COARSE_FLAT_MAX_LISTS = 1024
"""Up to here the coarse level of ivf-pq4 has no codes of its own."""
_ROW_ID = 8
_LIST_ENTRY = 24
"""Of a list in `OnDiskInvertedLists`: size, capacity, offset."""
_FAISS_LIST = 112
"""Of a list in `ArrayInvertedLists` as FAISS 1.15 opens it mapped: two vectors that may own their memory."""


def memory_parts(spec: IndexSpec, passages: int, segments: int) -> Parts:
    """What a process has in memory that serves so many passages in so many segments, of an index with `spec`."""
    if spec.kind == "flat":
        return {"vectors": 2 * spec.dimension * passages}
    if spec.kind == "ivf-pq":
        # IvfPqIndex: pages of the mapped files, which searches of all lists bring in.
        return {
            "codes": spec.code_bytes * passages,
            "row ids": _ROW_ID * passages,
            "centroids": 4 * spec.nlist * spec.dimension,
            "codebooks and tables": segments * (1024 * spec.dimension + _FAISS_LIST * spec.nlist),
        }
    # packed_lists.py, coarse.py: the lists of all segments joined, each padded.
    entries = spec.copies * passages
    padding = spec.nlist * _padding(entries / spec.nlist)
    coded = coarse_code_bytes(spec)
    return {
        "codes": spec.code_bytes * entries,
        "row ids": _ROW_ID * entries,
        "padding of lists": (spec.code_bytes + _ROW_ID) * padding,
        "centroids": 4 * spec.nlist * spec.dimension,
        "coarse codes": coded,
        "codebooks and tables": _LIST_ENTRY * spec.nlist
        + _rotation_bytes(spec)
        + 128 * spec.pq_m
        + (32 * spec.dimension if coded else 0),
    }


def coarse_code_bytes(spec: IndexSpec) -> int:
    """Of the 4-bit codes by which all kinds but ivf-pq find the nearest lists; 0 where all centroids are compared."""
    coded = spec.kind != "ivf-pq" and spec.nlist > COARSE_FLAT_MAX_LISTS and spec.dimension % 4 == 0
    return -(-spec.nlist // BLOCK) * BLOCK * spec.dimension // 4 if coded else 0


def disk_parts(spec: IndexSpec, passages: int, segments: int) -> Parts:
    """Bytes of vectors, codes and template on disk (docs/FORMAT.md)."""
    vectors = {"exact vectors": 2.0 * spec.dimension * passages, "block checksums": 8.0 * -(-passages // BLOCK_ROWS)}
    if spec.kind == "flat":
        return vectors
    if spec.kind == "ivf-pq":
        per_segment = 8 * spec.nlist + 1024 * spec.dimension
        codes = (spec.code_bytes + _ROW_ID) * passages + segments * per_segment
        return {**vectors, "codes": codes, "template": 4 * spec.nlist * spec.dimension + per_segment}
    entries = spec.copies * passages
    coded = 64 * spec.dimension if coarse_code_bytes(spec) else 0
    codebooks = _rotation_bytes(spec) + 128 * spec.pq_m + coded
    return {
        **vectors,
        "codes": (spec.code_bytes + 4) * entries + 4 * spec.nlist * segments,
        "template": 4 * spec.nlist * spec.dimension + codebooks,
    }


def gpu_pq_m(dimension: int) -> int:
    """Sub-quantizers of ivf-pq that GPUs take, as many as its default or the next fewer."""
    return max(m for m in CODE_BYTES if dimension % m == 0 and m <= max(1, dimension // 6))


def _rotation_bytes(spec: IndexSpec) -> int:
    return 4 * spec.dimension * (2 * spec.pq_m if spec.kind == "ivf-pq4" else spec.rotated_dimension)


def _padding(length: float) -> float:
    """Codes by which a list of about this length is padded, on average: the last block of a long one is half full."""
    return max((BLOCK - 1) / 2, BLOCK - length) if length else 0.0
