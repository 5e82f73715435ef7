"""Deleting documents: by their ids, or all for which a filter is true of any passage."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from datastore.errors import InvalidArgument
from datastore.filters.language import parse
from datastore.filters.predicate import Predicate
from datastore.keeping.documents import OpenPassages, StoredDocuments
from datastore.store.columns import Columns
from datastore.store.generations import writing
from datastore.store.manifest import Manifest, publish, succeeding
from datastore.store.segment import COLUMNS, SEGMENTS_FOLDER, check_part

_BATCH = 1024
_NAMED = 5
"""Unknown ids that a result names."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """What `delete` came to."""

    generation: int
    """The one that does not have them; the one before where nothing was to be deleted."""
    documents: int
    passages: int
    unknown: int = 0
    """Ids that no document has, or no longer."""
    unknown_ids: tuple[str, ...] = ()
    """The first of them."""


def delete(store: Path, *, document_ids: Iterable[str] | None = None, where: str | None = None) -> Deletion:
    """Delete documents, in one generation; when this returns, no search that begins finds them.

    They are left out by bitmaps; `compact` takes them from the disk.

    Args:
        document_ids: ids; those that no document has are counted, so that a deletion may be asked for twice.
        where: a filter. A document goes with all its passages if it is true for any of them.

    Raises:
        InvalidArgument: not one of the two is given, or the filter cannot be read.
        NotFound, FailedPrecondition, DataLoss: the store cannot be read.
        Unavailable: another process is writing to the store.
    """
    if (document_ids is None) == (where is None):
        raise InvalidArgument(
            "one of document ids and a filter says what to delete; "
            + ("neither was given" if where is None else "both were given"),
            mend="give document ids or a filter",
            field="where",
        )
    predicate = None if where is None else parse(where)
    with writing(store) as manifest, closing(OpenPassages(store)) as opened:
        documents = StoredDocuments(store, manifest.segments, opened)
        unknown: list[str] = []
        if predicate is not None:
            _mark_matching(store, manifest, documents, predicate)
        else:
            unknown = _mark_named(documents, document_ids or ())
        newer = succeeding(manifest, segments=documents.write(manifest.generation + 1))
        gone = manifest.documents - newer.documents
        if gone:
            publish(store, newer)
        return Deletion(
            generation=newer.generation if gone else manifest.generation,
            documents=gone,
            passages=manifest.passages - newer.passages,
            unknown=len(unknown),
            unknown_ids=tuple(unknown[:_NAMED]),
        )


def _mark_named(documents: StoredDocuments, document_ids: Iterable[str]) -> list[str]:
    """Mark them, and return those that are not there."""
    unknown = []
    distinct = iter(dict.fromkeys(document_ids))
    while batch := list(islice(distinct, _BATCH)):
        places = documents.find(batch)
        documents.delete(place for place in places if place is not None)
        unknown += [name for name, place in zip(batch, places, strict=True) if place is None]
    return unknown


def _mark_matching(store: Path, manifest: Manifest, documents: StoredDocuments, predicate: Predicate) -> None:
    from datastore.filters.evaluate import survivors

    for segment, record in enumerate(manifest.segments):
        check_part(store, record, COLUMNS)
        path = store / SEGMENTS_FOLDER / record.segment_id / COLUMNS
        with closing(Columns(path, record.passages)) as columns:
            matching = np.unpackbits(
                survivors(predicate, columns).bitmap, count=record.passages, bitorder="little"
            ).view(bool)
            matching &= ~documents.deleted(segment)
            numbers = columns.document_numbers()
        hit = np.zeros(record.documents, bool)
        hit[numbers[matching]] = True
        documents.delete_rows(segment, hit[numbers], int(np.count_nonzero(hit)))
