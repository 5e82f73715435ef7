"""What is left of a damaged segment, and a whole one made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datastore.cleaning.segment_keys import write_kept_keys, write_keys_anew
from datastore.cleaning.settings import DuplicateSettings
from datastore.documents import Passage
from datastore.encoders.registry import Encoder
from datastore.errors import DataLoss
from datastore.store.block_sums import BLOCK_ROWS
from datastore.store.columns import Columns
from datastore.store.document_keys import has_keys
from datastore.store.manifest import SegmentRecord
from datastore.store.passages import PassageStore, salvaged
from datastore.store.segment import COLUMNS, KEYS, PASSAGES, SEGMENTS_FOLDER, VECTORS, VECTORS_SUMS, SegmentWriter
from datastore.store.vectors import VectorFile

_BATCH = 512

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Remains:
    """What can still be read of a segment."""

    passages: NDArray[np.bool_]
    """[rows]: whether the text is there."""
    vectors: NDArray[np.bool_]
    """[rows]: whether the exact vector is there, unchanged."""
    rows: Rows
    """To be kept: not deleted, and of documents of which every passage is there."""
    keys: bool
    """Whether what its documents are recognized by is there."""
    lost: tuple[str, ...]
    """Documents, not deleted ones, of which a passage is not there: ids, or `rows A to B` where those are not known."""


def inspect(
    store: Path, record: SegmentRecord, damaged: set[str], deleted: NDArray[np.bool_], dimension: int
) -> Remains:
    """Look at every passage and vector of a segment some of whose parts are damaged."""
    folder = store / SEGMENTS_FOLDER / record.segment_id
    there = np.ones(record.passages, bool)
    documents: dict[int, str] = {}
    if PASSAGES in damaged:
        there[:] = False
        for row, passage in salvaged(folder / PASSAGES, record.passages):
            there[row] = True
            documents[row] = passage.document_id
    names = _names(folder, record) if COLUMNS not in damaged else None
    lost_rows = np.flatnonzero(~there & ~deleted)
    whole = there & ~deleted
    lost: list[str] = []
    if len(lost_rows):
        if names is not None:
            lost = list(dict.fromkeys(names[row] for row in lost_rows.tolist()))
            gone = set(lost)
            whole &= np.array([name not in gone for name in names], bool)
        else:
            # Rows of a document are neighbours: what borders on a gap may be a part of what is lost.
            for first, last in _gaps(lost_rows):
                lost.append(f"rows {first} to {last}")
                for beside in (first - 1, last + 1):
                    torn = documents.get(beside)
                    whole[[row for row, document in documents.items() if document == torn]] = False
    vectors = _whole_vectors(folder, record, damaged, dimension)
    return Remains(there, vectors, np.flatnonzero(whole), has_keys(record) and KEYS not in damaged, tuple(lost))


def _names(folder: Path, record: SegmentRecord) -> list[str]:
    columns = Columns(folder / COLUMNS, record.passages)
    try:
        return [name.document_id for name in columns.names(np.arange(record.passages))]
    finally:
        columns.close()


def _gaps(rows: Rows) -> Iterator[tuple[int, int]]:
    """(first, last) of runs of consecutive rows."""
    for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
        yield int(run[0]), int(run[-1])


def _whole_vectors(folder: Path, record: SegmentRecord, damaged: set[str], dimension: int) -> NDArray[np.bool_]:
    whole = np.zeros(record.passages, bool)
    path = folder / VECTORS
    if VECTORS not in damaged:
        whole[:] = True
    elif VECTORS_SUMS not in damaged:
        with suppress(DataLoss, OSError), VectorFile(path, record.passages, dimension) as vectors:
            for start in range(0, record.passages if vectors.sums is not None else 0, BLOCK_ROWS):
                with suppress(DataLoss):
                    vectors.check(np.array([start]))
                    whole[start : start + BLOCK_ROWS] = True
    return whole


def rewrite(
    store: Path,
    record: SegmentRecord,
    segment_id: str,
    remains: Remains,
    *,
    dimension: int,
    analyzer: str,
    encoder: Callable[[], Encoder],
    duplicates: DuplicateSettings | None = None,
) -> SegmentRecord | None:
    """Write what is to be kept as a segment, not sealed yet and without codes; None where nothing is.

    Args:
        encoder: opened for the vectors that are not there, if there are such.
        duplicates: what are left out of additions; the documents' keys are kept for it, or made anew.
    """
    if not len(remains.rows):
        return None
    folder = store / SEGMENTS_FOLDER / record.segment_id
    writer = SegmentWriter(store, segment_id, dimension, analyzer)
    stored = np.memmap(folder / VECTORS, "<f2", "r").reshape(-1, dimension) if remains.vectors.any() else None
    try:
        for rows, passages in _batches(folder, record, remains):
            writer.add(passages, [0] * len(passages), 0)
            vectors = np.empty((len(rows), dimension), np.float32)
            known = remains.vectors[rows]
            if stored is not None:
                vectors[known] = stored[rows[known]]
            if not known.all():
                texts = [passages[place].indexed_text for place in np.flatnonzero(~known).tolist()]
                vectors[~known] = encoder().encode_passages(texts)
            writer.add_vectors(vectors)
        writer.finish()
    except BaseException:
        writer.abort()
        raise
    if duplicates is not None and remains.keys:
        new_rows = np.full(record.passages, -1, np.int64)
        new_rows[remains.rows] = np.arange(len(remains.rows))
        write_kept_keys(store, [record], [new_rows], segment_id, duplicates)
    elif duplicates is not None:
        write_keys_anew(store, writer.record, duplicates)
    share = writer.record.words / max(record.words, 1)
    return replace(
        writer.record,
        tokens=round(record.tokens * share),
        truncated_passages=min(round(record.truncated_passages * share), len(remains.rows)),
    )


def _batches(folder: Path, record: SegmentRecord, remains: Remains) -> Iterator[tuple[Rows, list[Passage]]]:
    wanted = np.zeros(record.passages, bool)
    wanted[remains.rows] = True
    rows: list[int] = []
    batch: list[Passage] = []
    for row, passage in _passages(folder / PASSAGES, remains):
        if not wanted[row]:
            continue
        rows.append(row)
        batch.append(passage)
        if len(batch) == _BATCH:
            yield np.array(rows), batch
            rows, batch = [], []
    if batch:
        yield np.array(rows), batch


def _passages(path: Path, remains: Remains) -> Iterator[tuple[int, Passage]]:
    try:
        store = PassageStore(path)
    except DataLoss:
        yield from salvaged(path, len(remains.passages))
        return
    try:
        for start in range(0, len(remains.rows), _BATCH):
            rows: Sequence[int] = remains.rows[start : start + _BATCH].tolist()
            yield from zip(rows, store.get(rows), strict=True)
    finally:
        store.close()
