"""Documents to segments: chunked, encoded and written, in the order they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from datastore.chunking.registry import open_chunker
from datastore.config import BuildConfig, segment_limit
from datastore.documents import Document, Passage
from datastore.encoders.registry import Encoder
from datastore.sources.rejects import Rejects
from datastore.store.manifest import SegmentRecord
from datastore.store.segment import SegmentWriter

_BATCH_PASSAGES = 512
"""Passages encoded at once: enough to sort by length, little enough to show progress."""
_BATCH_CHARACTERS = 1 << 24
"""A batch also ends here, as passages may be whole documents."""


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """Where a build is; `passages` counts up through each of the stages `passages`, `index` and, where recall is
    measured, `truth` and `sweep`."""

    stage: str
    documents: int
    passages: int
    rejected: int


OnProgress = Callable[[BuildProgress], None]


class Counts:
    """What has gone through so far, told to `on_progress`."""

    def __init__(self, rejects: Rejects, on_progress: OnProgress) -> None:
        self.documents = 0
        self.rejects = rejects
        self._on_progress = on_progress

    def watch(self, documents: Iterable[Document]) -> Iterator[Document]:
        for document in documents:
            self.documents += 1
            yield document

    def tell(self, stage: str, passages: int) -> None:
        self._on_progress(BuildProgress(stage, self.documents, passages, self.rejects.total))


def write_segments(
    documents: Iterable[Document],
    store: Path,
    config: BuildConfig,
    encoder: Encoder,
    counts: Counts,
    *,
    generation: int,
) -> list[SegmentRecord]:
    """Chunk, encode and write all documents; a segment ends with a document, at or after its limit.

    Args:
        generation: the one that the segments will be published in first; their names begin with it.
    """
    chunk = open_chunker(config.chunk, encoder.count_tokens)
    finished: list[SegmentRecord] = []
    total = 0
    writer: SegmentWriter | None = None
    batch: list[Passage] = []
    characters = in_segment = 0
    try:
        for document in documents:
            if writer is not None and in_segment >= segment_limit(config.segment, total - in_segment):
                writer.add(batch)
                writer.finish()
                finished.append(writer.record)
                writer, batch, characters, in_segment = None, [], 0, 0
            if writer is None:
                writer = SegmentWriter(store, f"{generation:08d}-{len(finished):06d}", encoder, config.bm25.analyzer)
            for passage in chunk(document):
                batch.append(passage)
                characters += len(passage.text)
                total += 1
                in_segment += 1
                if len(batch) == _BATCH_PASSAGES or characters >= _BATCH_CHARACTERS:
                    writer.add(batch)
                    batch, characters = [], 0
                    counts.tell("passages", total)
        if writer is not None:
            writer.add(batch)
            writer.finish()
            finished.append(writer.record)
            counts.tell("passages", total)
    except BaseException:
        if writer is not None:
            writer.abort()
        raise
    return finished
