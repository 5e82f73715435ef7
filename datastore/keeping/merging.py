"""Several segments rewritten as one, without what is deleted in them.

Vectors and codes are copied; only the BM25 index is made anew of the texts, as Lucene renumbers no rows (and takes a
tenth of a millisecond for a passage). So the result is what a build of the same documents would have made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datastore.ann.index import Template
from datastore.ann.spec import IndexSpec
from datastore.cleaning.segment_keys import write_kept_keys
from datastore.cleaning.settings import DuplicateSettings
from datastore.store.deletions import read_deleted
from datastore.store.manifest import SegmentRecord
from datastore.store.passages import PassageStore
from datastore.store.segment import PASSAGES, SEGMENTS_FOLDER, VECTORS, SegmentWriter, check_part
from datastore.store.vectors import VectorFile

_BATCH = 1024


def merge_segments(
    store: Path,
    records: Sequence[SegmentRecord],
    segment_id: str,
    *,
    spec: IndexSpec,
    analyzer: str,
    template: Template | None,
    duplicates: DuplicateSettings | None = None,
) -> SegmentRecord:
    """Write the live passages of `records`, in that order, as one segment, not sealed yet.

    Args:
        template: renumbers the codes; None leaves the segment without codes.
        duplicates: what are left out of additions; the documents' keys come along for it.
    """
    kept = [np.flatnonzero(~read_deleted(store, record)) for record in records]
    writer = SegmentWriter(store, segment_id, spec.dimension, analyzer)
    tokens = truncated = 0
    try:
        for record, rows in zip(records, kept, strict=True):
            words = writer.record.words
            _copy(store, record, rows, writer, spec.dimension)
            # Nobody counted the tokens of each passage: those of what is left are in proportion to its words.
            share = (writer.record.words - words) / max(record.words, 1)
            tokens += round(record.tokens * share)
            truncated += min(round(record.truncated_passages * share), len(rows))
        writer.finish()
    except BaseException:
        writer.abort()
        raise
    passages = [record.passages for record in records]
    new_rows = _new_rows(passages, kept)
    if duplicates is not None:
        write_kept_keys(store, records, np.split(new_rows, np.cumsum(passages)[:-1]), segment_id, duplicates)
    if template is not None:
        for record in records:
            check_part(store, record, spec.codes_name)
        folders = [store / SEGMENTS_FOLDER / record.segment_id for record in records]
        template.write_merged(
            [folder / spec.codes_name for folder in folders],
            passages,
            new_rows,
            store / SEGMENTS_FOLDER / segment_id / spec.codes_name,
        )
    return replace(writer.record, tokens=tokens, truncated_passages=truncated)


def _copy(store: Path, record: SegmentRecord, rows: NDArray[np.int64], writer: SegmentWriter, dimension: int) -> None:
    folder = store / SEGMENTS_FOLDER / record.segment_id
    passages = PassageStore(folder / PASSAGES)
    try:
        with VectorFile(folder / VECTORS, record.passages, dimension) as vectors:
            for start in range(0, len(rows), _BATCH):
                batch = rows[start : start + _BATCH]
                writer.add(passages.get(batch.tolist()), [0] * len(batch), 0)
                writer.add_vectors(vectors.read(batch))
    finally:
        passages.close()


def _new_rows(passages: Sequence[int], kept: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Of each row, counting on from segment to segment, the one in the merged segment; -1 for what is not kept."""
    rows = np.full(sum(passages), -1, np.int64)
    bases = np.cumsum([0, *passages])[:-1]
    live = np.concatenate([np.empty(0, np.int64), *(base + mine for base, mine in zip(bases, kept, strict=True))])
    rows[live] = np.arange(len(live))
    return rows
