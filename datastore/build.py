"""Building a datastore: documents to passages to segments, then the index over them, then the manifest."""

from __future__ import annotations

import errno
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datastore.ann.index import check_device, train_template
from datastore.ann.operating_curve import OperatingCurve
from datastore.ann.spec import TEMPLATE_NAMES, IndexSpec, check_index, choose_index
from datastore.bm25.analysis import check_analyzer
from datastore.chunking import chunk_words
from datastore.config import BuildConfig, segment_limit
from datastore.devices import AUTO, DeviceChoice
from datastore.documents import Document, Passage
from datastore.encoders.registry import Encoder, open_encoder
from datastore.errors import AlreadyExists, InvalidArgument, PergamonError, ResourceExhausted
from datastore.sources.inputs import open_inputs
from datastore.sources.rejects import Rejects
from datastore.store.checksums import record_file
from datastore.store.durable import fsync_path
from datastore.store.lock import LOCK_NAME, write_lock
from datastore.store.manifest import MANIFEST_NAME, Manifest, RejectSummary, SegmentRecord, publish
from datastore.store.segment import SEGMENTS_FOLDER, VECTORS, SegmentWriter, seal_segment
from datastore.store.vectors import VectorFile
from datastore.tune import TuneOptions, measure

REJECTS_NAME = "rejects-1.jsonl"
_BUILD_FILES = (SEGMENTS_FOLDER, *TEMPLATE_NAMES, REJECTS_NAME, MANIFEST_NAME + ".tmp")
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


def build(
    inputs: Sequence[str],
    store: Path,
    config: BuildConfig,
    on_progress: OnProgress = lambda _: None,
    encoder: Encoder | None = None,
    *,
    device: DeviceChoice = AUTO,
) -> Manifest:
    """Build a new datastore from `inputs` in the folder `store`; return its first generation.

    Its vectors come from the encoder that `config` names, or from the one that is given.

    Until the last step the folder has no manifest, so it holds no datastore: a killed build leaves what the next
    one sweeps away.

    Args:
        device: where passages are encoded, the index is trained and vectors are put into its lists.

    Raises:
        FailedPrecondition: a device that was asked for is not there.
        AlreadyExists: the folder holds a datastore, or files that are not ours.
        InvalidArgument: no documents, too many rejects, or a setting that does not fit.
        ResourceExhausted: the disk is full, or a GPU's memory.
    """
    with _storage_errors(store):
        _refuse_occupied(store)
    rejects = Rejects(store / REJECTS_NAME)
    documents = open_inputs(inputs, rejects, max_document_bytes=config.input.max_document_bytes)
    _refuse_store_in_input(inputs, store)
    check_analyzer(config.bm25.analyzer)
    check_device(device)
    encoder = encoder or open_encoder(config.encoder, device)
    check_index(config.index, encoder.fingerprint.dimension)
    with _storage_errors(store), write_lock(store):
        _refuse_occupied(store)
        _sweep(store)
        try:
            with rejects:
                counts = _Counts(rejects, on_progress)
                records = _write_segments(counts.watch(documents), store, config, encoder, counts)
            _check_input(inputs, config, counts)
            return _publish(store, config, encoder, records, counts, device=device)
        except BaseException:
            if not (store / MANIFEST_NAME).exists():
                _sweep(store, keep=rejects.path)
            raise


def _publish(
    store: Path,
    config: BuildConfig,
    encoder: Encoder,
    records: Sequence[SegmentRecord],
    counts: _Counts,
    *,
    device: DeviceChoice,
) -> Manifest:
    """Index the finished segments, put everything on the device, and commit the first generation."""
    passages = sum(record.passages for record in records)
    spec = choose_index(config.index, passages, encoder.fingerprint.dimension)
    template = _write_index(store, spec, records, counts, device)
    manifest = Manifest(
        datastore_id=str(uuid.uuid4()),
        generation=1,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        writer=f"pergamon {version('pergamon')}",
        config=config,
        encoder=encoder.fingerprint,
        index=spec,
        template=record_file(store, template) if template else None,
        segments=tuple(seal_segment(store, record) for record in records),
        rejects=_summarize(store, counts.rejects),
        required_features=spec.required_features,
    )
    if spec.kind != "flat" and config.index.tune_queries:
        manifest = replace(manifest, operating_curve=_measure(store, manifest, counts))
    counts.tell("publish", passages)
    fsync_path(store / SEGMENTS_FOLDER)
    fsync_path(store)
    fsync_path(store.absolute().parent)
    publish(store, manifest)
    return manifest


class _Counts:
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


def _write_segments(
    documents: Iterable[Document], store: Path, config: BuildConfig, encoder: Encoder, counts: _Counts
) -> list[SegmentRecord]:
    """Chunk, encode and write all documents; a segment ends with a document, at or after its limit."""
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
                writer = SegmentWriter(store, f"{1:08d}-{len(finished):06d}", encoder, config.bm25.analyzer)
            for passage in chunk_words(document, config.chunk.words):
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


def _check_input(inputs: Sequence[str], config: BuildConfig, counts: _Counts) -> None:
    rejected, seen = counts.rejects.total, counts.documents + counts.rejects.total
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(counts.rejects.by_reason.items()))
    if counts.documents == 0:
        raise InvalidArgument(
            f"no document in {', '.join(inputs)}"
            + (f": all {rejected} records were rejected ({reasons})" if rejected else ""),
            mend="give input with at least one document that has text",
            field="input",
        )
    if rejected > config.input.max_rejected_share * seen:
        raise InvalidArgument(
            f"{rejected} of {seen} input records were rejected ({reasons}), more than the share allowed, "
            f"{config.input.max_rejected_share:g}",
            mend=f"see {counts.rejects.path}, then mend the input or raise input.max_rejected_share",
            field="input",
        )


def _write_index(
    store: Path, spec: IndexSpec, records: Sequence[SegmentRecord], counts: _Counts, device: DeviceChoice
) -> Path | None:
    """Train the shared template and encode every segment with it; return the template's file, if its kind has one."""
    folders = [store / SEGMENTS_FOLDER / record.segment_id for record in records]
    files = [
        VectorFile(folder / VECTORS, record.passages, spec.dimension)
        for folder, record in zip(folders, records, strict=True)
    ]
    try:
        counts.tell("index", 0)
        template = train_template(spec, _training_sample(files, spec), device)
        done = 0
        for folder, vectors in zip(folders, files, strict=True):
            template.write_segment(vectors.blocks(), folder / spec.codes_name)
            done += vectors.rows
            counts.tell("index", done)
    finally:
        for vectors in files:
            vectors.close()
    path = store / spec.template_name
    if not template.save(path):
        return None
    fsync_path(path)
    return path


def _measure(store: Path, manifest: Manifest, counts: _Counts) -> OperatingCurve:
    """What recall costs, so that a search may ask for one from the first day."""

    def tell(stage: str, done: int, total: int) -> None:
        counts.tell(stage, manifest.passages * done // total)

    options = TuneOptions(manifest.config.index.tune_queries, seed=manifest.config.index.seed)
    return measure(store, manifest, options, on_progress=tell)


def _training_sample(files: Sequence[VectorFile], spec: IndexSpec) -> NDArray[np.float32]:
    """`spec.train_vectors` rows, float32, drawn without replacement by the seed, in row order."""
    total = sum(vectors.rows for vectors in files)
    chosen = np.sort(np.random.default_rng(spec.seed).choice(total, spec.train_vectors, replace=False))
    sample = np.empty((len(chosen), spec.dimension), np.float32)
    start = 0
    for vectors in files:
        first, end = np.searchsorted(chosen, [start, start + vectors.rows])
        sample[first:end] = vectors.matrix[chosen[first:end] - start]
        start += vectors.rows
    return sample


def _summarize(store: Path, rejects: Rejects) -> RejectSummary:
    if rejects.total == 0:
        return RejectSummary(0, {}, None)
    fsync_path(rejects.path)
    return RejectSummary(rejects.total, dict(sorted(rejects.by_reason.items())), record_file(store, rejects.path))


def _refuse_occupied(store: Path) -> None:
    """Refuse a folder with a datastore or with somebody's files; what an interrupted build left may be there."""
    if (store / MANIFEST_NAME).exists():
        raise AlreadyExists(
            f"{store} holds a datastore", mend="build into another folder, or remove this one first", field="store"
        )
    found = store.iterdir() if store.exists() else ()
    foreign = sorted(path.name for path in found if path.name not in {LOCK_NAME, *_BUILD_FILES})
    if foreign:
        raise AlreadyExists(
            f"{store} is not empty and holds no datastore: it has {foreign[0]!r}",
            mend="build into a new or empty folder",
            field="store",
        )


def _refuse_store_in_input(inputs: Sequence[str], store: Path) -> None:
    """A build that read what it writes could go on for ever."""
    for value in inputs:
        if Path(value).is_dir() and store.resolve().is_relative_to(Path(value).resolve()):
            raise InvalidArgument(
                f"the store {store} lies in the input folder {value}",
                mend="build into a folder outside of the input",
                field="store",
            )


def _sweep(store: Path, keep: Path | None = None) -> None:
    """Remove what a build makes; only for a folder without a manifest, by the holder of its lock."""
    for name in _BUILD_FILES:
        path = store / name
        if path == keep:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def _storage_errors(store: Path) -> Iterator[None]:
    """Turn the system's refusals into ours."""
    try:
        yield
    except PergamonError:
        raise
    except OSError as error:
        what = f"{error.filename or store}: {error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise ResourceExhausted(f"no space left: {what}", mend="free some space and run the build again") from None
        raise InvalidArgument(
            f"cannot write {what}",
            mend="choose a folder that can be written to, and run the build again",
            field="store",
        ) from None
