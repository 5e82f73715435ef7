"""Approximate nearest neighbours over the segments of a shard: what the rest of the house sees of FAISS."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from datastore.ann.spec import IndexSpec

if TYPE_CHECKING:
    from datastore.store.vectors import VectorFile


@dataclass(frozen=True, slots=True)
class Probes:
    """The lists that a query reads, found once for all segments: both [queries, nprobe]."""

    lists: NDArray[np.int64]
    distances: NDArray[np.float32]


class SegmentIndex(Protocol):
    """The codes of one segment."""

    def search(
        self, queries: NDArray[np.float32], k: int, probes: Probes | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(approximate scores, rows), each [queries, k], best first; rows are -1 beyond what was found."""
        ...


class Template(Protocol):
    """The trained part that all segments of a datastore share."""

    @property
    def exact(self) -> bool:
        """Whether a search misses nothing, so that its order can be made exact by looking deeper."""
        ...

    def save(self, path: Path) -> bool:
        """Write it; False where there is nothing to write."""
        ...

    def write_segment(self, vectors: Iterable[NDArray[np.float16]], path: Path) -> bool:
        """Encode the rows of a segment in order and write its codes; False where the exact vectors serve as codes."""
        ...

    def open_segment(self, path: Path, vectors: VectorFile) -> SegmentIndex: ...

    def assign(self, queries: NDArray[np.float32], nprobe: int) -> Probes | None: ...


@dataclass(frozen=True, slots=True)
class AnnCandidates:
    """Candidates of one query over several segments, in no order; aligned arrays [found]."""

    segments: NDArray[np.int64]
    """Position of the segment in the searched list."""
    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    """Of the codes, so approximate."""


def search_segments(
    template: Template,
    segments: Sequence[SegmentIndex],
    query: NDArray[np.float32],
    depth: int,
    nprobe: int,
) -> AnnCandidates:
    """The best `depth` candidates of one query, float32 [dimension], over all segments.

    Fewer come back when fewer are found: FAISS pads with -1, and this is the one place where that is dropped.
    """
    queries = np.ascontiguousarray(query, np.float32).reshape(1, -1)
    probes = template.assign(queries, nprobe)
    scores, rows, owners = [], [], []
    for position, segment in enumerate(segments):
        segment_scores, segment_rows = segment.search(queries, depth, probes)
        found = segment_rows[0] >= 0
        scores.append(segment_scores[0][found])
        rows.append(segment_rows[0][found])
        owners.append(np.full(int(found.sum()), position, np.int64))
    if not scores:
        return AnnCandidates(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    all_scores, all_rows, all_owners = np.concatenate(scores), np.concatenate(rows), np.concatenate(owners)
    if len(all_scores) > depth:
        best = np.argpartition(-all_scores, depth - 1)[:depth]
        all_scores, all_rows, all_owners = all_scores[best], all_rows[best], all_owners[best]
    return AnnCandidates(all_owners, all_rows, all_scores)


def load_template(spec: IndexSpec, path: Path | None) -> Template:
    """The template that `spec` describes; `path` is its file, where its kind has one."""
    from datastore.ann.faiss_kinds import TEMPLATES

    return TEMPLATES[spec.kind].load(spec, path)


def train_template(spec: IndexSpec, sample: NDArray[np.float32]) -> Template:
    """Train on float32 [n, dimension], with the seed of `spec`: the same sample gives the same template."""
    from datastore.ann.faiss_kinds import TEMPLATES

    return TEMPLATES[spec.kind].train(spec, sample)
