"""Documents to segments: chunked, encoded and written, in the order they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from datastore.chunking.registry import open_chunker
from datastore.config import BuildConfig
from datastore.documents import Document, Passage
from datastore.encoders.registry import Encoder
from datastore.store.manifest import SegmentRecord
from datastore.store.segment import SegmentWriter

_BATCH_PASSAGES = 512
"""Passages encoded at once: enough to sort by length, little enough to show progress, and to lose in a crash."""
_BATCH_CHARACTERS = 1 << 24
"""A batch also ends here, as passages may be whole documents."""
_BATCHES_AHEAD = 2
"""That wait for the encoder: it never waits for the rest, and memory stays bounded."""


@dataclass(frozen=True, slots=True)
class Written:
    """What of some documents is in segments so far."""

    documents: int = 0
    passages: int = 0
    tokens: int = 0

    def plus(self, documents: int, passages: int, tokens: int) -> Written:
        return Written(self.documents + documents, self.passages + passages, self.tokens + tokens)


class SegmentLog(Protocol):
    """Remembers which segments of a sequence are whole, so that one that was interrupted is gone on with."""

    def finished(self) -> list[tuple[SegmentRecord, int]]:
        """The first segments, as far as they are whole, and how many documents went into each."""
        ...

    def finish(self, number: int, record: SegmentRecord, documents: int) -> None: ...

    def journal(self, number: int) -> Path:
        """Where the journal of a segment's vectors lies."""
        ...


def write_segments(
    documents: Iterable[Document],
    store: Path,
    config: BuildConfig,
    encoder: Encoder,
    *,
    name: Callable[[int], str],
    limit: Callable[[int], int],
    on_progress: Callable[[Written], None] = lambda _: None,
    log: SegmentLog | None = None,
) -> list[SegmentRecord]:
    """Chunk, encode and write all documents; a segment ends with a document, at or after its limit.

    To add to a datastore, call it with names that begin with the new generation and limits that count what is there::

        write_segments(
            documents, store, config, encoder,
            name=lambda number: segment_name(generation, number),
            limit=lambda passages: segment_limit(config.segment, manifest.passages + passages),
        )

    then `write_codes` and `seal_segment` for each record. While one thread encodes, this one chunks, and writes
    passages, columns and BM25.

    Args:
        name: from the number of a segment, 0 for the first, to its id.
        limit: from the passages in all segments before it to those that a segment holds at most.
        log: where it is noted what is done. With one that has notes of an earlier call with the same arguments, this
            goes on where that ended: finished segments stay, and of the next one the vectors that are there.
    """
    chunk = open_chunker(config.chunk, encoder.count_tokens)
    finished = log.finished() if log is not None else []
    records = [record for record, _ in finished]
    remaining = islice(documents, sum(count for _, count in finished), None)
    before = Written()
    for record, count in finished:
        before = before.plus(count, record.passages, record.tokens)
    with ThreadPoolExecutor(1, "encode") as thread:
        current: _OpenSegment | None = None
        try:
            for document in remaining:
                if current is not None and current.passages >= limit(before.passages):
                    before = _finish(current, records, log)
                    current = None
                if current is None:
                    number = len(records)
                    writer = SegmentWriter(
                        store,
                        name(number),
                        encoder.fingerprint.dimension,
                        config.bm25.analyzer,
                        journal=log.journal(number) if log is not None else None,
                    )
                    current = _OpenSegment(writer, encoder, thread, before, on_progress)
                current.add(chunk(document))
            if current is not None:
                before = _finish(current, records, log)
        except BaseException:
            if current is not None:
                current.abort()
            raise
    on_progress(before)
    return records


def segment_name(generation: int, number: int, task: int | None = None) -> str:
    """The id of a segment: generation and number; between them the task, in a build of several."""
    return f"{generation:08d}-{number:06d}" if task is None else f"{generation:08d}-{task:06d}-{number:06d}"


def _finish(segment: _OpenSegment, records: list[SegmentRecord], log: SegmentLog | None) -> Written:
    """Close a segment, note it as whole, and say what there is with it."""
    record = segment.finish()
    if log is not None:
        log.finish(len(records), record, segment.documents)
    records.append(record)
    return segment.written


class _OpenSegment:
    """A segment while documents go into it."""

    def __init__(
        self,
        writer: SegmentWriter,
        encoder: Encoder,
        thread: ThreadPoolExecutor,
        before: Written,
        on_progress: Callable[[Written], None],
    ) -> None:
        self.writer = writer
        self.documents = 0
        self.passages = 0
        self._encoder = encoder
        self._thread = thread
        self._before = before
        self._on_progress = on_progress
        self._batch: list[Passage] = []
        self._characters = 0
        self._encoding: deque[tuple[Future[None], Written]] = deque()

    def add(self, passages: Iterator[Passage]) -> None:
        """The passages of one document."""
        self.documents += 1
        for passage in passages:
            self._batch.append(passage)
            self._characters += len(passage.text)
            self.passages += 1
            if len(self._batch) == _BATCH_PASSAGES or self._characters >= _BATCH_CHARACTERS:
                self._end_batch()

    def _end_batch(self) -> None:
        batch, self._batch, self._characters = self._batch, [], 0
        if not batch:
            return
        texts = [passage.indexed_text for passage in batch]
        encoding = self._thread.submit(self._encode, texts)
        self.writer.add(batch, self._encoder.count_tokens(texts), self._encoder.fingerprint.max_tokens)
        self._encoding.append((encoding, self.written))
        while len(self._encoding) > _BATCHES_AHEAD:
            self._await_batch()

    def _encode(self, texts: list[str]) -> None:
        if not self.writer.holds_vectors(texts):
            self.writer.add_vectors(self._encoder.encode_passages(texts), texts)

    def _await_batch(self) -> None:
        encoding, written = self._encoding.popleft()
        encoding.result()
        self._on_progress(written)

    @property
    def written(self) -> Written:
        """With what the segments before it hold."""
        return self._before.plus(self.documents, self.writer.record.passages, self.writer.record.tokens)

    def finish(self) -> SegmentRecord:
        self._end_batch()
        while self._encoding:
            self._await_batch()
        self.writer.finish()
        return self.writer.record

    def abort(self) -> None:
        self._thread.shutdown(cancel_futures=True)
        self.writer.abort()
