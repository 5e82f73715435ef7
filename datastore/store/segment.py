"""A segment: the immutable result of one build task, written row by row and read by row."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datastore.bm25.index import Bm25Writer
from datastore.documents import Passage
from datastore.store.checksums import FileRecord, check_file, record_file
from datastore.store.columns import ColumnsWriter
from datastore.store.durable import fsync_tree
from datastore.store.manifest import SegmentRecord
from datastore.store.passages import PassageWriter
from datastore.store.vector_journal import VectorJournal
from datastore.store.vectors import VALUE_BYTES, VectorWriter

SEGMENTS_FOLDER = "segments"
PASSAGES = "passages"
VECTORS = "vectors.f16"
VECTORS_SUMS = "vectors.xxh3"
COLUMNS = "columns.arrow"
BM25 = "bm25"
KEYS = "signatures.keys"


class SegmentWriter:
    """Writes passages, vectors, columns and the BM25 index of one segment, all in row order.

    Passages and vectors may come from two threads, each of them in the same order. Codes come later, when the template
    that all segments share is trained.

    Args:
        dimension: of its vectors.
        journal: path of the journal of its vectors, if they shall outlive a kill: a writer of the same segment then
            finds those that were written (`holds_vectors`), and writes all else again.
    """

    def __init__(
        self, store: Path, segment_id: str, dimension: int, analyzer: str, *, journal: Path | None = None
    ) -> None:
        self._folder = store / SEGMENTS_FOLDER / segment_id
        if journal is None:
            self._folder.mkdir(parents=True)
        else:
            _clear(self._folder)
        vectors = self._folder / VECTORS
        self._columns = ColumnsWriter(self._folder / COLUMNS)
        with contextlib.ExitStack() as opened:
            self._passages = PassageWriter(self._folder / PASSAGES)
            opened.callback(self._passages.abort)
            kept = VectorJournal(journal, vectors, dimension * VALUE_BYTES) if journal is not None else None
            self._vectors = VectorWriter(vectors, dimension, kept)
            opened.callback(self._vectors.abort)
            self._bm25 = Bm25Writer(self._folder / BM25, analyzer)
            opened.callback(self._bm25.abort)
            self._opened = opened.pop_all()
        self.record = SegmentRecord(segment_id, 0, 0, 0, 0, 0, ())
        """Counts so far; files are recorded when the whole segment is sealed."""

    def add(self, passages: Sequence[Passage], lengths: Sequence[int], max_tokens: int) -> None:
        """Append passages, but not their vectors; all passages of a document come to one segment, in order.

        Args:
            lengths: of the passages in the encoder's tokens.
            max_tokens: as in the encoder's fingerprint.
        """
        self._passages.add(passages)
        self._columns.add(passages)
        self._bm25.add([passage.indexed_text for passage in passages])
        self.record = replace(
            self.record,
            passages=self.record.passages + len(passages),
            documents=self.record.documents + sum(passage.chunk_index == 0 for passage in passages),
            words=self.record.words + sum(len(passage.text.split()) for passage in passages),
            tokens=self.record.tokens + sum(lengths),
            truncated_passages=self.record.truncated_passages + sum(0 < max_tokens < length for length in lengths),
        )

    def holds_vectors(self, texts: Sequence[str]) -> bool:
        """Whether the vectors of the next batch of texts were written before: then they must not be added."""
        return self._vectors.holds(texts)

    def add_vectors(self, vectors: NDArray[np.float32], texts: Sequence[str] = ()) -> None:
        """Append float32 [n, dimension]; `texts`, as they were encoded, are for the journal alone."""
        self._vectors.add(vectors, texts)

    def finish(self) -> None:
        """Close every file; nothing can be added afterwards."""
        self._passages.close()
        self._vectors.close()
        self._columns.close()
        self._bm25.finish()

    def abort(self) -> None:
        """Let go of every file of a segment that will not be finished."""
        self._opened.close()


def _clear(folder: Path) -> None:
    """An empty folder, but for the vectors that an interrupted writer left."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != VECTORS:
            path.unlink()


def seal_segment(store: Path, record: SegmentRecord) -> SegmentRecord:
    """Sync all files of a finished segment to the device and record their sizes and checksums."""
    folder = store / SEGMENTS_FOLDER / record.segment_id
    fsync_tree(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return replace(record, files=tuple(record_file(store, path) for path in files))


def part_files(record: SegmentRecord, name: str) -> list[FileRecord]:
    """What the manifest says of one part of a segment, a file or a folder."""
    path = f"{SEGMENTS_FOLDER}/{record.segment_id}/{name}"
    return [file for file in record.files if file.path == path or file.path.startswith(f"{path}/")]


def check_part(store: Path, record: SegmentRecord, name: str) -> None:
    """Raise DataLoss unless one part is what was written; before it is copied, which would record damage as right."""
    for file in part_files(record, name):
        check_file(store, file)
