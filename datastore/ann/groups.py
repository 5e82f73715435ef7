"""An index over groups of segments, so that a datastore that has grown is open soon.

To open an index is to join the lists of all its segments. When segments come to those that are open, the open index is
kept, and those that came are joined by themselves and searched beside it. Rows count on from group to group. Where the
last few of those that are open have become part of others, the scan leaves their codes out.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from datastore.ann.index import AnnIndex, Cover, CoveringIndex, Template
from datastore.ann.spec import IndexSpec

if TYPE_CHECKING:
    from datastore.store.vectors import VectorFile

Found = tuple[NDArray[np.float32], NDArray[np.int64]]


@runtime_checkable
class ProbedIndex(Protocol):
    """An index whose lists can be chosen once for several of the same template."""

    def probes(self, queries: NDArray[np.float32], nprobe: int, accept: NDArray[np.uint8] | None) -> Found:
        """(inner products of centroids, lists), as `scan` takes them."""
        ...

    def covering_probes(self, queries: NDArray[np.float32], cover: Cover) -> Found: ...

    def scan(self, queries: NDArray[np.float32], depth: int, probes: Found, accept: NDArray[np.uint8] | None) -> Found:
        """What `search` finds, in the lists chosen."""
        ...


@runtime_checkable
class _ListsIndex(ProbedIndex, CoveringIndex, Protocol):
    """One with lists in main memory."""


_LEAST_SHARE = 7 / 8
"""Of an open index that is still of use: with less, all segments are joined anew."""


@dataclass(frozen=True, eq=False, slots=True)
class Group:
    """Consecutive segments, joined."""

    segments: tuple[Hashable, ...]
    """What says which they are."""
    rows: int
    index: AnnIndex


def open_groups(
    template: Template,
    segments: Sequence[Hashable],
    paths: Sequence[Path],
    vectors: Sequence[VectorFile],
    open_already: Sequence[Group] = (),
) -> tuple[Group, ...]:
    """One group of all segments; or two, where the first that is open already has the first of them and little else.

    What is open already of the same segments is taken as it is.

    Args:
        segments: what says which each is; `paths` of their codes and `vectors` are in their order.
        open_already: groups of the same template.
    """
    wanted = tuple(segments)
    if wanted and tuple(segment for group in open_already for segment in group.segments) == wanted:
        return tuple(open_already)
    base = _reusable(open_already[0], wanted, vectors) if open_already and template.joins else None
    if base is None:
        return (_whole(template, wanted, paths, vectors),)
    own = len(base.segments)
    if own == len(wanted):
        return (base,)
    tail = template.open(paths[own:], vectors[own:], base.rows)
    return base, Group(wanted[own:], sum(file.rows for file in vectors[own:]), tail)


def _reusable(base: Group, wanted: tuple[Hashable, ...], vectors: Sequence[VectorFile]) -> Group | None:
    """What of an open group is of the first segments that are wanted."""
    own = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(base.segments, wanted, strict=False)))
    if own == len(base.segments):
        return base if own else None
    rows = sum(file.rows for file in vectors[:own])
    if not rows or rows < _LEAST_SHARE * base.rows or not isinstance(base.index, _ListsIndex):
        return None
    return Group(wanted[:own], rows, CutIndex(base.index, rows, base.rows))


def _whole(
    template: Template, segments: tuple[Hashable, ...], paths: Sequence[Path], vectors: Sequence[VectorFile]
) -> Group:
    return Group(segments, sum(file.rows for file in vectors), template.open(paths, vectors))


def join_groups(groups: Sequence[Group], spec: IndexSpec) -> AnnIndex:
    """One index over all groups; a single group's own."""
    if len(groups) == 1:
        return groups[0].index
    indexes = [group.index for group in groups]
    covering = [index for index in indexes if isinstance(index, CoveringIndex)]
    return CoveringGroups(covering, spec) if len(covering) == len(indexes) else GroupedIndex(indexes, spec)


class CutIndex:
    """The first rows of an index; what comes after them is left out of every scan.

    Args:
        rows: how many stay; of `all_rows`.
    """

    def __init__(self, index: _ListsIndex, rows: int, all_rows: int) -> None:
        self._index = index
        self._kept = np.packbits(np.arange(all_rows) < rows, bitorder="little")
        self.probes = index.probes
        self.covering_probes = index.covering_probes

    def _accept(self, accept: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        if accept is None:
            return self._kept
        kept = np.zeros_like(self._kept)
        common = min(len(kept), len(accept))
        kept[:common] = self._kept[:common] & accept[:common]
        return kept

    def search(self, queries: NDArray[np.float32], depth: int, nprobe: int, accept: NDArray[np.uint8] | None) -> Found:
        return self._index.search(queries, depth, nprobe, self._accept(accept))

    def scan(self, queries: NDArray[np.float32], depth: int, probes: Found, accept: NDArray[np.uint8] | None) -> Found:
        return self._index.scan(queries, depth, probes, self._accept(accept))

    def count_in_lists(self, accept: NDArray[np.uint8]) -> NDArray[np.int32]:
        return self._index.count_in_lists(self._accept(accept))

    def search_covering(self, queries: NDArray[np.float32], depth: int, cover: Cover) -> Found:
        return self._index.search_covering(queries, depth, replace(cover, accept=self._accept(cover.accept)))


class GroupedIndex:
    """Implements `AnnIndex` over several of the same template; lists are chosen once for all, where that can be."""

    def __init__(self, groups: Sequence[AnnIndex], spec: IndexSpec) -> None:
        self._groups = groups
        self._copies = spec.copies
        probed = [group for group in groups if isinstance(group, ProbedIndex)]
        self._probed = probed if len(probed) == len(groups) else []

    def search(self, queries: NDArray[np.float32], depth: int, nprobe: int, accept: NDArray[np.uint8] | None) -> Found:
        if not self._probed:
            return self._merged([group.search(queries, depth, nprobe, accept) for group in self._groups], depth)
        return self._scan(queries, depth, self._probed[0].probes(queries, nprobe, accept), accept)

    def _scan(self, queries: NDArray[np.float32], depth: int, probes: Found, accept: NDArray[np.uint8] | None) -> Found:
        return self._merged([group.scan(queries, depth, probes, accept) for group in self._probed], depth)

    def _merged(self, found: Sequence[Found], depth: int) -> Found:
        """The best of all, as many as one index over all segments would give."""
        depth *= self._copies
        scores = np.concatenate([scores for scores, _ in found], axis=1)
        rows = np.concatenate([rows for _, rows in found], axis=1)
        if scores.shape[1] > depth:
            scores[rows < 0] = -np.inf
            best = np.argpartition(scores, scores.shape[1] - depth, axis=1)[:, -depth:]
            scores, rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
        return scores, rows


class CoveringGroups(GroupedIndex):
    """The same of indexes that know which of their lists hold what a filter leaves."""

    def __init__(self, groups: Sequence[CoveringIndex], spec: IndexSpec) -> None:
        super().__init__(groups, spec)
        self._covering = groups

    def count_in_lists(self, accept: NDArray[np.uint8]) -> NDArray[np.int32]:
        counts: NDArray[np.int32] = np.sum([group.count_in_lists(accept) for group in self._covering], 0, np.int32)
        return counts

    def search_covering(self, queries: NDArray[np.float32], depth: int, cover: Cover) -> Found:
        if not self._probed:
            return self._merged([group.search_covering(queries, depth, cover) for group in self._covering], depth)
        return self._scan(queries, depth, self._probed[0].covering_probes(queries, cover), cover.accept)
