"""Which lists hold what a filter leaves, and which of them a query needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from datastore.ann.index import Cover
from datastore.ann.kinds.coarse import CoarseIndex

if TYPE_CHECKING:
    from datastore.store.vectors import VectorFile

_MORE = 1.25
"""Lists looked at first, as a multiple of those that would do if survivors lay evenly."""
_LEAST = 8
_MUCH_MORE = 4


class ListRows:
    """The rows of each list, in the files of the segments' codes (`ann.lists`), which stay on disk.

    Args:
        paths: of those files; `vectors` are of the same segments.
        first_row: of the first segment.
    """

    def __init__(self, paths: Sequence[Path], vectors: Sequence[VectorFile], first_row: int) -> None:
        self._files = [np.memmap(path, "<u4", "r", shape=(path.stat().st_size // 4,)) for path in paths]
        self._bases = np.cumsum([first_row, *(file.rows for file in vectors)])

    def count(self, accept: NDArray[np.uint8], nlist: int) -> NDArray[np.int32]:
        """Codes of accepted rows in each list, [nlist]."""
        accepted = np.unpackbits(accept, bitorder="little")
        counts = np.zeros(nlist, np.int32)
        for file, base in zip(self._files, self._bases, strict=False):
            lengths = file[:nlist].astype(np.int64)
            filled = np.flatnonzero(lengths)
            if not len(filled):
                continue
            rows = file[nlist : nlist + int(lengths.sum())]
            starts = (np.cumsum(lengths) - lengths)[filled]
            counts[filled] += np.add.reduceat(accepted[base:][rows], starts, dtype=np.int32)
        return counts


def covering_lists(
    coarse: CoarseIndex, queries: NDArray[np.float32], cover: Cover
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(inner products of centroids, lists), both [n, most lists of a query], nearest first; lists are -1 beyond a
    query's own."""
    nlist, total = len(cover.in_lists), int(cover.in_lists.sum(dtype=np.int64))
    wanted = min(cover.codes, total)
    nprobe = min(nlist, _LEAST + int(_MORE * nlist * wanted / max(total, 1)))
    while True:
        products, lists = coarse.search(queries, nprobe)
        held = cover.in_lists[lists]
        before = np.cumsum(held, axis=1) - held
        if nprobe == nlist or bool((before[:, -1] + held[:, -1] >= wanted).all()):
            break
        nprobe = min(nlist, _MUCH_MORE * nprobe)
    wanted_lists = (held > 0) & (before < wanted)
    most = max(1, int(wanted_lists.sum(axis=1).max(initial=0)))
    order = np.argsort(~wanted_lists, axis=1, kind="stable")[:, :most]
    lists = np.where(np.take_along_axis(wanted_lists, order, 1), np.take_along_axis(lists, order, 1), -1)
    return np.ascontiguousarray(np.take_along_axis(products, order, 1)), lists
