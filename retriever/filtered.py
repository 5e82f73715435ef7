"""What a filter leaves of a shard, and how it is searched.

Three ways lead to the best of the survivors, and which is taken changes with their number and with how often they are
asked for (measured in bench/results/filtered-1m.md):

- Few are all scored exactly, where that takes no longer than to search the lists.
- Of more, once enough queries have asked for the same filter, codes are kept in one piece, as if they were an index of
  their own. So it costs no more than a search of everything, and it misses none that lie far from the query.
- Otherwise the lists are scanned with the bitmap, nearest first, until they held enough survivors: fewer lists where
  survivors are many near the query, more where a filter leaves only what lies elsewhere.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from datastore.ann.index import AnnIndex, Cover, CoveringIndex, compact_quantizer
from datastore.ann.spec import IndexSpec
from datastore.store.exact import ExactVectors

if TYPE_CHECKING:
    from datastore.ann.kinds.compact import CompactCodes, CompactQuantizer

Rows = NDArray[np.int64]

SCANNED_SURVIVORS = 16_384
"""Up to so many may all be scored exactly: four milliseconds when their vectors are in memory."""

_CODES_PER_SCORE = 32
"""Codes in lists that are compared in the time in which one passage is read and scored exactly."""

COMPACT_SURVIVORS = 65_536
"""Up to so many may have codes of their own: scanned in a fifth of a millisecond, 5 MB at 256 dimensions."""

_ASKED = 16
_SURVIVORS_PER_QUERY = 128
"""Codes are worth making after `_ASKED` queries, and one for each so many survivors: to encode them takes less than a
query saves, so that codes pay even if they are soon let go."""

_COVER_EXPONENT = 0.2
"""A filter that leaves the share s looks at s ** _COVER_EXPONENT times as many codes of survivors as a search without a
filter looks at codes: the fewer survive, the larger is the part of them that has to be seen."""

_COVER_MORE = 1.5
"""And so many times more, as survivors that lie elsewhere than the query are told apart less well by their lists."""

_LEAST_KEPT_BYTES = 1 << 25
_KEPT_BYTES_PER_PASSAGE = 4
"""Of all codes kept for filters, with the rows that they are of."""

_SAMPLE = 1024
"""Vectors that the codebooks of compact codes are trained on."""
_BLOCK = 4096


@dataclass(eq=False)
class Accepted:
    """The passages of a shard that a filter leaves; thread-safe."""

    bitmap: NDArray[np.uint8]
    """Bit `r % 8` of byte `r // 8` is row r; rows count on from segment to segment."""
    count: int
    asked: int = 0
    """Queries so far; only roughly where several threads count."""
    codes: CompactCodes | None = None
    """Of `rows`, in their order."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @cached_property
    def rows(self) -> Rows:
        """Ascending, int64 [count]; only asked for where they are few."""
        return np.flatnonzero(np.unpackbits(self.bitmap, bitorder="little"))

    _in_lists: NDArray[np.int32] | None = field(default=None, repr=False)

    def in_lists(self, index: CoveringIndex) -> NDArray[np.int32]:
        """Codes of survivors in each list of the shard's index, counted once."""
        if self._in_lists is None:
            self._in_lists = index.count_in_lists(self.bitmap)
        return self._in_lists

    def forget_codes(self) -> None:
        """As if nobody had asked yet."""
        self.asked, self.codes = 0, None
        self.__dict__.pop("rows", None)


class SurvivorsSearch:
    """Chooses the way for each filter; thread-safe."""

    def __init__(self, index: AnnIndex, vectors: ExactVectors, spec: IndexSpec, passages: int) -> None:
        self._covering = index if isinstance(index, CoveringIndex) else None
        self._vectors = vectors
        self._spec = spec
        self._passages = passages
        self._kept = _KeptCodes(max(_LEAST_KEPT_BYTES, _KEPT_BYTES_PER_PASSAGE * passages))
        self._trained: list[CompactQuantizer | None] = []
        self._lock = threading.Lock()

    def candidates(
        self, queries: NDArray[np.float32], depth: int, nprobe: int, accepted: Accepted
    ) -> list[Rows] | None:
        """For each query the rows to score exactly, found without the lists; None where those are to be searched."""
        accepted.asked += len(queries)
        if accepted.count <= depth:
            return [accepted.rows] * len(queries)
        codes = accepted.codes or self._compacted(accepted)
        if codes is not None:
            self._kept.note(accepted, codes)
            return [accepted.rows[np.sort(positions)] for positions in codes.search(queries, depth)]
        in_lists = self._spec.copies * self._passages * self._read_share(nprobe, accepted)
        few = accepted.count <= SCANNED_SURVIVORS and _CODES_PER_SCORE * accepted.count <= in_lists
        return [accepted.rows] * len(queries) if few else None

    def probes(self, nprobe: int, accepted: Accepted) -> tuple[int, NDArray[np.uint8] | Cover]:
        """How many lists are read and what is accepted, where without a filter `nprobe` lists would be read."""
        share = self._read_share(nprobe, accepted)
        if self._covering is not None:
            codes = round(self._spec.copies * accepted.count * share)
            return nprobe, Cover(accepted.bitmap, accepted.in_lists(self._covering), codes)
        return round(self._spec.nlist * share), accepted.bitmap

    def _read_share(self, nprobe: int, accepted: Accepted) -> float:
        """Of all codes, and of the survivors', what a search of the lists looks at if survivors lie evenly."""
        if not self._spec.nlist:
            return 1.0
        share = accepted.count / self._passages
        return float(min(1.0, _COVER_MORE * nprobe / self._spec.nlist * share ** (_COVER_EXPONENT - 1)))

    def _compacted(self, accepted: Accepted) -> CompactCodes | None:
        """Codes of the survivors, made now if they pay and no other thread is about it."""
        enough = max(_ASKED, accepted.count // _SURVIVORS_PER_QUERY)
        if accepted.asked < enough or accepted.count > COMPACT_SURVIVORS or self._spec.kind == "flat":
            return None
        if not accepted.lock.acquire(blocking=False):
            return None
        try:
            if accepted.codes is None and (quantizer := self._quantizer()) is not None:
                rows = accepted.rows
                blocks = (self._vectors.read(rows[at : at + _BLOCK]) for at in range(0, len(rows), _BLOCK))
                accepted.codes = quantizer.encode(blocks)
            return accepted.codes
        finally:
            accepted.lock.release()

    def _quantizer(self) -> CompactQuantizer | None:
        """One for all filters of the shard, trained when the first needs it."""
        with self._lock:
            if not self._trained:
                rows = np.linspace(0, self._passages - 1, min(_SAMPLE, self._passages)).astype(np.int64)
                self._trained = [compact_quantizer(self._vectors.read(np.unique(rows)))]
            return self._trained[0]


class _KeptCodes:
    """Filters that have codes, the least recently asked for losing them first; thread-safe."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._kept: OrderedDict[int, tuple[Accepted, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def note(self, accepted: Accepted, codes: CompactCodes) -> None:
        """That the codes of this filter are used."""
        with self._lock:
            if id(accepted) in self._kept:
                self._kept.move_to_end(id(accepted))
                return
            size = codes.nbytes + accepted.rows.nbytes
            self._kept[id(accepted)] = accepted, size
            self._bytes += size
            while self._bytes > self._capacity and len(self._kept) > 1:
                _, (oldest, size) = self._kept.popitem(last=False)
                oldest.forget_codes()
                self._bytes -= size
