"""A segment: the immutable result of one build task, written row by row and read by row."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datastore.bm25.index import Bm25Writer
from datastore.documents import Passage
from datastore.encoders.registry import Encoder
from datastore.store.checksums import record_file
from datastore.store.columns import ColumnsWriter
from datastore.store.durable import fsync_tree
from datastore.store.manifest import SegmentRecord
from datastore.store.passages import PassageWriter
from datastore.store.vectors import VectorWriter

SEGMENTS_FOLDER = "segments"
PASSAGES = "passages"
VECTORS = "vectors.f16"
COLUMNS = "columns.arrow"
BM25 = "bm25"


class SegmentWriter:
    """Writes passages, vectors, columns and the BM25 index of one segment, all in row order.

    Codes come later, when the template that all segments share is trained.
    """

    def __init__(self, store: Path, segment_id: str, encoder: Encoder, analyzer: str) -> None:
        self._store = store
        self._folder = store / SEGMENTS_FOLDER / segment_id
        self._folder.mkdir(parents=True)
        self._encoder = encoder
        self._columns = ColumnsWriter(self._folder / COLUMNS)
        with contextlib.ExitStack() as opened:
            self._passages = PassageWriter(self._folder / PASSAGES)
            opened.callback(self._passages.abort)
            self._vectors = VectorWriter(self._folder / VECTORS, encoder.fingerprint.dimension)
            opened.callback(self._vectors.abort)
            self._bm25 = Bm25Writer(self._folder / BM25, analyzer)
            opened.callback(self._bm25.abort)
            self._opened = opened.pop_all()
        self.record = SegmentRecord(segment_id, 0, 0, 0, 0, 0, ())
        """Counts so far; files are recorded when the whole segment is sealed."""

    def add(self, passages: Sequence[Passage]) -> None:
        """Append passages; all passages of a document come to one segment, in order."""
        texts = [passage.indexed_text for passage in passages]
        vectors: NDArray[np.float32] = self._encoder.encode_passages(texts)
        lengths = self._encoder.count_tokens(texts)
        limit = self._encoder.fingerprint.max_tokens
        self._vectors.add(vectors)
        self._passages.add(passages)
        self._columns.add(passages)
        self._bm25.add(texts)
        self.record = replace(
            self.record,
            passages=self.record.passages + len(passages),
            documents=self.record.documents + sum(passage.chunk_index == 0 for passage in passages),
            words=self.record.words + sum(len(passage.text.split()) for passage in passages),
            tokens=self.record.tokens + sum(lengths),
            truncated_passages=self.record.truncated_passages + sum(limit > 0 and length > limit for length in lengths),
        )

    def finish(self) -> None:
        """Close every file; nothing can be added afterwards."""
        self._passages.close()
        self._vectors.close()
        self._columns.close()
        self._bm25.finish()

    def abort(self) -> None:
        """Let go of every file of a segment that will not be finished."""
        self._opened.close()


def seal_segment(store: Path, record: SegmentRecord) -> SegmentRecord:
    """Sync all files of a finished segment to the device and record their sizes and checksums."""
    folder = store / SEGMENTS_FOLDER / record.segment_id
    fsync_tree(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return replace(record, files=tuple(record_file(store, path) for path in files))
