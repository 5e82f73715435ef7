"""Which indexes GPUs can search, and how much of their memory that takes: arithmetic, without a GPU.

FAISS's kernels for inverted lists take 8-bit codes of certain lengths. A code of 4-bit sub-quantizers is one of half as
many 8-bit ones, byte for byte: the centroids of a byte are all pairs of those of its halves. So `ivf-pq4` is searched
there too, on the bytes that lie in the store; where their number is none that the kernels know, zeros follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from datastore.ann.spec import IndexSpec
from datastore.errors import ResourceExhausted

CODE_BYTES = (1, 2, 3, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96)
"""Lengths of codes that FAISS's kernels are made for."""
SELECTED_MAX = 2048
"""Results of a search, and lists read by one, at most."""
TEMPORARY_BYTES = 1536 << 20
"""Set aside on each device for what a search computes: FAISS's own choice for devices of more than 8 GiB."""

_TABLE_BYTES_MAX = 48 << 10
"""Of a look-up table: the memory that the threads of a block share."""
_CENTROIDS = 256
_ALLOCATION = 512
"""Bytes that an allocation on a device is a multiple of; a list is two, of codes and of rows."""
_INDEXED_TOGETHER = 512 << 20
"""What FAISS copies to a device at once, of vectors to be assigned, and room to copy the next meanwhile."""


@dataclass(frozen=True, slots=True)
class GpuPlan:
    """How an index is held by GPUs."""

    devices: int
    code_bytes: int
    """Of a code there, zeros included; 0 for flat."""
    row_bytes: int
    """Of a row's number there; 0 for flat."""
    float16_tables: bool
    """Whether look-up tables hold float16, as float32 has no room."""
    device_bytes: int
    """On each device."""

    def describe(self) -> str:
        what = f"codes of {self.code_bytes} bytes" if self.code_bytes else "float32 vectors"
        return f"{what}, {gib(self.device_bytes)} on {'each device' if self.devices > 1 else 'one device'}"


def search_plan(spec: IndexSpec, passages: int, devices: int = 1) -> GpuPlan | str:
    """How `devices` GPUs hold the codes of `passages`, or why FAISS cannot search them there."""
    share = -(-passages // devices)
    if spec.kind == "flat":
        return GpuPlan(devices, 0, 0, False, 4 * (spec.dimension + 1) * share + TEMPORARY_BYTES)
    if spec.kind == "ivf-pq":
        if spec.pq_m not in CODE_BYTES:
            return f"FAISS has no GPU kernel for codes of {spec.pq_m} bytes"
        length, dimension = spec.pq_m, spec.dimension
    elif spec.kind == "ivf-pq4":
        longer = [length for length in CODE_BYTES if length >= spec.code_bytes]
        if not longer:
            return (
                f"FAISS has no GPU kernel for codes of more than {CODE_BYTES[-1]} bytes; these have {spec.code_bytes}"
            )
        length, dimension = longer[0], 4 * longer[0]
    else:
        return f"FAISS has no GPU kernel for the codes of {spec.kind}"
    row_bytes = 4 if passages < 1 << 31 else 8
    lists = spec.copies * share * (length + row_bytes) + 2 * _ALLOCATION * spec.nlist
    coarse = 4 * spec.nlist * (spec.dimension + dimension + 2)
    codebooks = 2 * 4 * _CENTROIDS * dimension
    float16_tables = 4 * _CENTROIDS * length > _TABLE_BYTES_MAX
    return GpuPlan(devices, length, row_bytes, float16_tables, lists + coarse + codebooks + TEMPORARY_BYTES)


def build_bytes(spec: IndexSpec) -> int:
    """Of each device, for training and for putting vectors into lists."""
    return 0 if spec.nlist == 0 else 4 * spec.nlist * (spec.dimension + 1) + TEMPORARY_BYTES + _INDEXED_TOGETHER


def require_memory(need: int, free: Mapping[int, int], what: str) -> None:
    """Raise ResourceExhausted unless each device (number -> free bytes) has `need`."""
    for number, have in free.items():
        if have < need:
            raise ResourceExhausted(
                f"{what} needs {gib(need)} on each of {len(free)} GPUs; cuda:{number} has {gib(have)} free",
                mend="give more devices, as --device cuda:0,1, free their memory, build with a smaller index.pq_m, "
                "or use --device cpu",
                field="device",
            )


def gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"
