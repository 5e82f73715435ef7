"""Rows of many mapped files, gathered in one step.

A gather from each file costs some microseconds, however few rows it has, and a query's candidates lie in nearly as many
files as there are. So the files' mappings are seen as one array over the part of the address space that they lie in.
"""

from __future__ import annotations

import ctypes
import math
import mmap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class JoinedRows:
    """Rows of several arrays [n, dimension] of one type, each at the start of a page, as of a file's mapping.

    The arrays are kept, so that their memory stays where it is.
    """

    def __init__(self, arrays: Sequence[NDArray[np.float16]]) -> None:
        self._arrays = [array for array in arrays if len(array)]
        self._dtype, self._dimension = arrays[0].dtype, arrays[0].shape[1]
        row_bytes = self._dtype.itemsize * self._dimension
        step = math.gcd(row_bytes, mmap.PAGESIZE)
        self._steps_per_row = row_bytes // step
        starts = np.array([array.ctypes.data if len(array) else 0 for array in arrays], np.int64)
        low = min(array.ctypes.data for array in self._arrays)
        high = max(array.ctypes.data + array.nbytes for array in self._arrays)
        if any((array.ctypes.data - low) % step or not array.flags.c_contiguous for array in self._arrays):
            raise ValueError("the arrays do not begin at pages")
        self._starts = (starts - low) // step
        memory = memoryview((ctypes.c_uint8 * (high - low)).from_address(low)).cast("B")
        # A row begins at every step, so rows overlap; those asked for lie within the arrays.
        self._rows = np.ndarray(((high - low - row_bytes) // step + 1,), f"V{row_bytes}", memory, strides=(step,))

    def take(self, arrays: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """Row `rows[i]` of array `arrays[i]`, which it must have: [len(rows), dimension]."""
        found = self._rows[self._starts[arrays] + rows * self._steps_per_row]
        values: NDArray[np.float16] = found.view(self._dtype).reshape(len(rows), self._dimension)
        return values
