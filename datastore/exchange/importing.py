"""A new datastore from passages that have vectors already: they are taken over, not encoded again."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xxhash

from datastore.ann.spec import check_index, choose_index
from datastore.bm25.analysis import check_analyzer
from datastore.build import refuse_occupied, sweep
from datastore.cleaning.segment_keys import write_keys_anew
from datastore.config import BuildConfig, segment_limit
from datastore.devices import AUTO, DeviceChoice
from datastore.documents import Passage
from datastore.encoders.registry import Encoder
from datastore.errors import FailedPrecondition, InvalidArgument
from datastore.exchange.foreign import Batch, Vectors
from datastore.indexing import open_template, write_codes, write_template
from datastore.segmenting import segment_name
from datastore.store.checksums import record_file
from datastore.store.durable import fsync_path
from datastore.store.lock import write_lock
from datastore.store.manifest import Manifest, RejectSummary, SegmentRecord, our_name, publish, utc_now
from datastore.store.refusals import storage_errors
from datastore.store.segment import SEGMENTS_FOLDER, SegmentWriter, seal_segment
from datastore.tune import TuneOptions, measure

_CHECKED = 48
"""Passages whose vectors are compared with the encoder's."""
_CHECKED_EARLY = 8
LEAST_COSINE = 0.95
"""That given vectors have with the encoder's on average, or they are of another: rounding leaves 0.999 and more."""
LEAST_LOSSY_COSINE = 0.6
"""The same of vectors that were decoded from codes."""
_LENGTH_ERROR = 0.01

OnProgress = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What was taken over."""

    manifest: Manifest
    checked: int
    """Passages that were encoded to be compared."""
    mean_cosine: float
    """Of their vectors with the given ones."""
    exact: bool
    """False where the vectors were decoded from codes: scores are then approximate, whatever is reranked."""


def import_passages(
    store: Path,
    batches: Iterable[Batch],
    config: BuildConfig,
    encoder: Encoder,
    *,
    exact: bool = True,
    device: DeviceChoice = AUTO,
    on_progress: OnProgress = lambda stage, passages: None,
) -> ImportReport:
    """Write passages and their vectors as a datastore whose queries `encoder` will encode.

    A sample is encoded and compared: vectors of another encoder would be searched without an error and find nonsense.

    Args:
        exact: whether the vectors are what the encoder gave, not what codes decode to.

    Raises:
        FailedPrecondition: the vectors are not the encoder's.
        InvalidArgument: there are no passages, a document comes twice or torn, a vector is not finite.
        AlreadyExists: the folder holds a datastore, or files that are not ours.
        ResourceExhausted: the disk is full.
    """
    check_analyzer(config.bm25.analyzer)
    check_index(config.index, encoder.fingerprint.dimension)
    with storage_errors(store):
        refuse_occupied(store)
    with storage_errors(store), write_lock(store):
        refuse_occupied(store)
        sweep(store)
        try:
            return _Importing(store, config, encoder, exact=exact, device=device, on_progress=on_progress).run(batches)
        except BaseException:
            sweep(store)
            raise


class _Importing:
    def __init__(
        self,
        store: Path,
        config: BuildConfig,
        encoder: Encoder,
        *,
        exact: bool,
        device: DeviceChoice,
        on_progress: OnProgress,
    ) -> None:
        self._store = store
        self._config = config
        self._encoder = encoder
        self._exact = exact
        self._device = device
        self._on_progress = on_progress
        self._names = _Names()
        self._sample = _Sample(encoder, LEAST_COSINE if exact else LEAST_LOSSY_COSINE)

    def run(self, batches: Iterable[Batch]) -> ImportReport:
        records = self._segments(batches)
        self._sample.check()
        total = sum(record.passages for record in records)
        if not total:
            raise InvalidArgument("there is no passage", mend="give files with at least one", field="input")
        spec = choose_index(self._config.index, total, self._encoder.fingerprint.dimension)
        self._on_progress("index", 0)
        template = write_template(self._store, spec, records, self._device)
        manifest = Manifest(
            datastore_id=str(uuid.uuid4()),
            generation=1,
            created=utc_now(),
            writer=our_name(),
            config=self._config,
            encoder=self._encoder.fingerprint,
            index=spec,
            template=record_file(self._store, template) if template else None,
            segments=tuple(records),
            rejects=RejectSummary(0, {}, None),
            required_features=spec.required_features,
        )
        trained = open_template(self._store, manifest, self._device)
        done = 0
        for record in records:
            write_codes(self._store, spec, trained, record)
            if self._config.clean.compared:
                write_keys_anew(self._store, record, self._config.clean.compared)
            done += record.passages
            self._on_progress("index", done)
        manifest = replace(manifest, segments=tuple(seal_segment(self._store, record) for record in records))
        if spec.kind != "flat" and self._config.index.tune_queries:
            options = TuneOptions(self._config.index.tune_queries, seed=self._config.index.seed)
            manifest = replace(manifest, operating_curve=measure(self._store, manifest, options))
        for path in (self._store / SEGMENTS_FOLDER, self._store, self._store.absolute().parent):
            fsync_path(path)
        publish(self._store, manifest)
        return ImportReport(manifest, self._sample.checked, self._sample.mean, self._exact)

    def _segments(self, batches: Iterable[Batch]) -> list[SegmentRecord]:
        finished: list[SegmentRecord] = []
        writer: SegmentWriter | None = None
        total = 0
        try:
            for batch in batches:
                vectors = self._checked(batch.vectors, total)
                starts = batch.passages[0].chunk_index == 0
                if (
                    writer is not None
                    and starts
                    and writer.record.passages >= segment_limit(self._config.segment, total - writer.record.passages)
                ):
                    writer.finish()
                    finished.append(writer.record)
                    writer = None
                if writer is None:
                    name = segment_name(1, len(finished))
                    dimension = self._encoder.fingerprint.dimension
                    writer = SegmentWriter(self._store, name, dimension, self._config.bm25.analyzer)
                for passage in batch.passages:
                    self._names.add(passage)
                texts = [passage.indexed_text for passage in batch.passages]
                limit = self._encoder.fingerprint.max_tokens
                writer.add(batch.passages, self._encoder.count_tokens(texts), limit)
                writer.add_vectors(vectors)
                self._sample.add(texts[0], vectors[0])
                if total == 0:
                    for place in range(1, min(_CHECKED_EARLY, len(texts))):
                        self._sample.add(texts[place], vectors[place])
                    self._sample.check()  # before hours of writing
                total += len(texts)
                self._on_progress("passages", total)
            if writer is not None:
                writer.finish()
                finished.append(writer.record)
        except BaseException:
            if writer is not None:
                writer.abort()
            raise
        return finished

    def _checked(self, vectors: Vectors, before: int) -> Vectors:
        fingerprint = self._encoder.fingerprint
        if vectors.shape[1] != fingerprint.dimension:
            raise FailedPrecondition(
                f"the vectors have {vectors.shape[1]} dimensions; the encoder {fingerprint.name!r} gives "
                f"{fingerprint.dimension}",
                mend="name the encoder that made them",
            )
        if not fingerprint.normalized:
            return vectors
        lengths = np.linalg.norm(vectors, axis=1)
        if not self._exact:  # what codes decode to is a little shorter
            unit: Vectors = vectors / np.maximum(lengths, np.float32(1e-12))[:, None]
            return unit
        odd = np.flatnonzero(~((np.abs(lengths - 1) < _LENGTH_ERROR) | (lengths == 0)))
        if len(odd):
            raise FailedPrecondition(
                f"the vector of passage {before + int(odd[0])} has the length {lengths[odd[0]]:.4g}; the encoder "
                f"{fingerprint.name!r} is set to give length 1",
                mend="set encoder.normalize = false, if the vectors were made without",
            )
        return vectors


class _Names:
    """Whether documents come once, each with its passages one after another."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._last = ("", -1)

    def add(self, passage: Passage) -> None:
        document, chunk = self._last
        self._last = (passage.document_id, passage.chunk_index)
        if passage.document_id == document and passage.chunk_index == chunk + 1:
            return
        name = xxhash.xxh3_64_intdigest(passage.document_id.encode())
        if name in self._seen:
            raise InvalidArgument(
                f"the document {passage.document_id!r} comes twice, or its passages do not follow one another",
                mend="give each passage an id of its own, or the passages of a document in order",
                field="input",
            )
        if passage.chunk_index != 0:
            raise InvalidArgument(
                f"the document {passage.document_id!r} begins with the passage {passage.chunk_index}; wanted 0",
                mend="give all passages of a document, in order",
                field="input",
            )
        self._seen.add(name)


class _Sample:
    """Some passages over all of the input, encoded to be compared."""

    def __init__(self, encoder: Encoder, least: float) -> None:
        self._encoder = encoder
        self._least = least
        self._pairs: list[tuple[str, Vectors]] = []
        self._step = 1
        self._come = 0
        self.checked = 0
        self.mean = 1.0

    def add(self, text: str, vector: Vectors) -> None:
        if self._come % self._step == 0:
            self._pairs.append((text, vector))
        self._come += 1
        if len(self._pairs) > _CHECKED:
            self._pairs = self._pairs[::2]
            self._step *= 2

    def check(self) -> None:
        if not self._pairs:
            return
        given = np.stack([vector for _, vector in self._pairs]).astype(np.float32)
        own = self._encoder.encode_passages([text for text, _ in self._pairs])
        lengths = np.linalg.norm(given, axis=1) * np.linalg.norm(own, axis=1)
        cosines = np.einsum("ij,ij->i", given, own)[lengths > 0] / lengths[lengths > 0]
        self.checked = len(cosines)
        self.mean = float(cosines.mean()) if len(cosines) else 1.0
        if self.mean < self._least:
            raise FailedPrecondition(
                f"the vectors of {self.checked} passages have a mean cosine of {self.mean:.3f} with what the encoder "
                f"{self._encoder.fingerprint.name!r} gives for their texts; wanted at least {self._least}",
                mend="name the encoder that made them, with its prompts; and check that passages and vectors belong "
                "together",
            )
