"""The documents of a datastore, as an addition compares its own with them: found by keys, read only to compare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datastore.cleaning.duplicates import Numbers
from datastore.cleaning.minhash import Shingles
from datastore.cleaning.settings import DuplicateSettings
from datastore.cleaning.signatures import Signer, stored_text
from datastore.errors import DataLoss
from datastore.keeping.documents import StoredDocuments
from datastore.store.checksums import MEND
from datastore.store.document_keys import Keys, Rows, SortedKeys, has_keys
from datastore.store.manifest import SegmentRecord

_ROW_BITS = 32
_FIRST = -(1 << 62)
"""The number of row 0 of segment 0."""
_SKETCHES = 4096
"""Kept of documents that were compared: 4 KB each at most."""


class StoredTexts:
    """Implements `datastore.cleaning.duplicates.Earlier`; for one thread.

    Documents that are deleted, or marked to be, are not there. Nor are those of segments without keys.
    """

    def __init__(
        self, store: Path, records: Sequence[SegmentRecord], documents: StoredDocuments, settings: DuplicateSettings
    ) -> None:
        self._records = records
        self._documents = documents
        self._keys = {i: SortedKeys(store, record) for i, record in enumerate(records) if has_keys(record)}
        self._signer = Signer(settings)
        self.sketch = lru_cache(_SKETCHES)(self._sketch)

    def same_text(self, high: Keys, low: Keys) -> Numbers:
        """See `Earlier`."""
        first = np.zeros(len(high), np.int64)
        for segment, keys in self._keys.items():
            stored_high, stored_low, stored_rows = keys.digests()
            for place, start, end in _found(stored_high, high):
                if first[place]:
                    continue
                rows = stored_rows[start:end][stored_low[start:end] == low[place]]
                numbers = self._numbers(segment, rows)
                if len(numbers):
                    first[place] = numbers[0]
        return first

    def same_band(self, band: int, keys: Keys) -> Iterator[tuple[int, Numbers]]:
        """See `Earlier`."""
        for segment, stored in self._keys.items():
            stored_keys, stored_rows = stored.band(band)
            for place, start, end in _found(stored_keys, keys):
                yield place, self._numbers(segment, stored_rows[start:end])

    def _sketch(self, number: int) -> Shingles:
        segment, row = _place(number)
        passages = self._documents.passages(segment)
        (first,) = passages.get([row])
        (run,) = passages.runs([first.document_id])
        start, count = run or (row, 1)
        return self._signer.sketch(stored_text(passages.get(range(start, start + count))))

    def document_id(self, number: int) -> str:
        """See `Earlier`."""
        segment, row = _place(number)
        return self._documents.passages(segment).get([row])[0].document_id

    def _numbers(self, segment: int, rows: Rows) -> Numbers:
        if len(rows) and int(rows.max()) >= self._records[segment].passages:
            raise DataLoss(f"{self._keys[segment].path} is damaged: it names row {rows.max()}", mend=MEND)
        return self._documents.live(segment, rows.astype(np.int64)) + (_FIRST + (segment << _ROW_BITS))


def _place(number: int) -> tuple[int, int]:
    """(segment, row)"""
    return (number - _FIRST) >> _ROW_BITS, (number - _FIRST) & ((1 << _ROW_BITS) - 1)


def _found(stored: Keys, wanted: NDArray[np.uint64]) -> Iterator[tuple[int, int, int]]:
    """(position, start, end): where the run of each of the keys lies that are there at all; both ascend."""
    starts = np.searchsorted(stored, wanted)
    places = np.flatnonzero(stored[np.minimum(starts, len(stored) - 1)] == wanted)
    ends = np.searchsorted(stored, wanted[places], "right")
    yield from zip(places.tolist(), starts[places].tolist(), ends.tolist(), strict=True)
