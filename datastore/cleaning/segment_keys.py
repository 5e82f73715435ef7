"""Which keys the documents of segments have (`datastore.store.document_keys`): kept, or made anew of their passages."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datastore.cleaning.settings import DuplicateSettings
from datastore.cleaning.signatures import document_keys, keys_of_passages
from datastore.store.columns import Columns
from datastore.store.document_keys import DocumentKeys, SortedKeys, has_keys, joined
from datastore.store.manifest import SegmentRecord
from datastore.store.passages import PassageStore
from datastore.store.segment import COLUMNS, KEYS, PASSAGES, SEGMENTS_FOLDER, check_part


def write_keys(
    store: Path, record: SegmentRecord, settings: DuplicateSettings, signatures: Path, documents: NDArray[np.int64]
) -> None:
    """Give a segment, finished but not sealed, the keys of the documents that it was written of.

    Args:
        signatures: folder of these and other documents (`datastore.cleaning.signatures`).
        documents: their rows there, in order.
    """
    folder = store / SEGMENTS_FOLDER / record.segment_id
    with closing(Columns(folder / COLUMNS, record.passages)) as columns:
        first_rows = columns.first_rows()
    document_keys(signatures, settings, documents, first_rows).write(folder / KEYS)


def write_keys_anew(store: Path, record: SegmentRecord, settings: DuplicateSettings) -> None:
    """Give a segment, finished but not sealed, the keys of its own passages."""
    _of_passages(store, record, settings).write(store / SEGMENTS_FOLDER / record.segment_id / KEYS)


def write_kept_keys(
    store: Path,
    records: Sequence[SegmentRecord],
    new_rows: Sequence[NDArray[np.int64]],
    segment_id: str,
    settings: DuplicateSettings,
) -> None:
    """Give a segment, finished but not sealed, the keys of the documents that it has of others.

    Args:
        new_rows: for each of those, int64 [passages]: the row that each of its rows has become, -1 for none.
    """
    parts = []
    for record, rows in zip(records, new_rows, strict=True):
        if has_keys(record):
            check_part(store, record, KEYS)
            keys = SortedKeys(store, record).document_keys()
        else:  # written before they were kept
            keys = _of_passages(store, record, settings)
        parts.append(keys.kept(rows))
    joined(parts).write(store / SEGMENTS_FOLDER / segment_id / KEYS)


def _of_passages(store: Path, record: SegmentRecord, settings: DuplicateSettings) -> DocumentKeys:
    with closing(PassageStore(store / SEGMENTS_FOLDER / record.segment_id / PASSAGES)) as passages:
        return keys_of_passages(passages.scan(), settings)
