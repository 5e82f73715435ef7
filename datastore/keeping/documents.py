"""Which documents a datastore has: found by their ids in its segments, and marked as deleted there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datastore.store.deletions import read_deleted, write_deletions
from datastore.store.manifest import SegmentRecord
from datastore.store.passages import PassageStore
from datastore.store.segment import PASSAGES, SEGMENTS_FOLDER


class Place(NamedTuple):
    """Where the passages of a document are."""

    segment: int
    """Position in the manifest."""
    first: int
    passages: int


class OpenPassages:
    """Passage stores of segments, kept open from change to change: to open one takes milliseconds. For one thread."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._opened: dict[str, PassageStore] = {}

    def of(self, records: Sequence[SegmentRecord]) -> list[PassageStore]:
        """Those of these segments, in their order; others are closed."""
        for gone in self._opened.keys() - {record.segment_id for record in records}:
            self._opened.pop(gone).close()
        for segment_id in (record.segment_id for record in records):
            if segment_id not in self._opened:
                self._opened[segment_id] = PassageStore(self._store / SEGMENTS_FOLDER / segment_id / PASSAGES)
        return [self._opened[record.segment_id] for record in records]

    def close(self) -> None:
        self.of(())


class StoredDocuments:
    """The documents of some segments, deleted ones not among them; for one thread.

    A look-up asks every segment, whose bloom filters answer for most of them.
    """

    def __init__(self, store: Path, records: Sequence[SegmentRecord], opened: OpenPassages) -> None:
        self._store = store
        self._records = records
        self._opened = opened
        self._deleted: dict[int, NDArray[np.bool_]] = {}
        self._documents: dict[int, int] = {}

    def find(self, document_ids: Sequence[str]) -> list[Place | None]:
        """Where each document is; None for what is not here, or was deleted."""
        found: list[Place | None] = [None] * len(document_ids)
        for segment, passages in enumerate(self._opened.of(self._records)):
            for at, run in enumerate(passages.runs(document_ids)):
                if run is not None and not self._marks(segment)[run[0]]:
                    found[at] = Place(segment, *run)
        return found

    def passages(self, segment: int) -> PassageStore:
        """Those of a segment, by its position in the manifest; deleted ones too."""
        return self._opened.of(self._records)[segment]

    def live(self, segment: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of some rows that are not deleted."""
        return rows[~self._marks(segment)[rows]]

    def delete(self, places: Iterable[Place]) -> None:
        """Mark documents as deleted. They are no longer found."""
        for place in places:
            self._marks(place.segment)[place.first : place.first + place.passages] = True
            self._documents[place.segment] = self._documents.get(place.segment, 0) + 1

    def delete_rows(self, segment: int, rows: NDArray[np.bool_], documents: int) -> None:
        """Mark rows that are so many whole documents, none of them deleted before, of bool [passages]."""
        if documents:
            np.logical_or(self._marks(segment), rows, out=self._marks(segment))
            self._documents[segment] = self._documents.get(segment, 0) + documents

    def deleted(self, segment: int) -> NDArray[np.bool_]:
        """bool [passages]: deleted before, or marked since."""
        return self._marks(segment).copy()

    def write(self, generation: int) -> tuple[SegmentRecord, ...]:
        """The segments with what was marked, on disk; those of which nothing is left are dropped."""
        changed = []
        for segment, record in enumerate(self._records):
            if segment not in self._documents:
                changed.append(record)
            elif not (marks := self._marks(segment)).all():
                documents = record.documents - record.live_documents + self._documents[segment]
                deletions = write_deletions(self._store, record.segment_id, generation, marks, documents)
                changed.append(replace(record, deletions=deletions))
        return tuple(changed)

    def _marks(self, segment: int) -> NDArray[np.bool_]:
        if segment not in self._deleted:
            # A copy: unpacked bits may be read-only.
            self._deleted[segment] = read_deleted(self._store, self._records[segment]).copy()
        return self._deleted[segment]
