"""Building a datastore: documents to passages to segments, then the index over them, then the manifest."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from datastore.ann.index import check_device
from datastore.ann.operating_curve import OperatingCurve
from datastore.ann.spec import TEMPLATE_NAMES, check_index, choose_index
from datastore.bm25.analysis import check_analyzer
from datastore.config import BuildConfig
from datastore.devices import AUTO, DeviceChoice
from datastore.encoders.registry import Encoder, open_encoder
from datastore.errors import AlreadyExists, InvalidArgument
from datastore.indexing import write_index
from datastore.segmenting import Counts, OnProgress, write_segments
from datastore.sources.inputs import open_inputs
from datastore.sources.rejects import Rejects
from datastore.store.checksums import record_file
from datastore.store.durable import fsync_path
from datastore.store.lock import LOCK_NAME, write_lock
from datastore.store.manifest import (
    GENERATIONS_FOLDER,
    MANIFEST_NAME,
    Manifest,
    RejectSummary,
    SegmentRecord,
    our_name,
    publish,
    utc_now,
)
from datastore.store.refusals import storage_errors
from datastore.store.segment import SEGMENTS_FOLDER, seal_segment
from datastore.tune import TuneOptions, measure

REJECTS_NAME = "rejects-1.jsonl"
_BUILD_FILES = (SEGMENTS_FOLDER, *TEMPLATE_NAMES, REJECTS_NAME, GENERATIONS_FOLDER, MANIFEST_NAME + ".tmp")


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
    with storage_errors(store):
        _refuse_occupied(store)
    rejects = Rejects(store / REJECTS_NAME)
    documents = open_inputs(inputs, rejects, max_document_bytes=config.input.max_document_bytes)
    _refuse_store_in_input(inputs, store)
    check_analyzer(config.bm25.analyzer)
    check_device(device)
    encoder = encoder or open_encoder(config.encoder, device)
    check_index(config.index, encoder.fingerprint.dimension)
    with storage_errors(store), write_lock(store):
        _refuse_occupied(store)
        _sweep(store)
        try:
            with rejects:
                counts = Counts(rejects, on_progress)
                records = write_segments(counts.watch(documents), store, config, encoder, counts, generation=1)
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
    counts: Counts,
    *,
    device: DeviceChoice,
) -> Manifest:
    """Index the finished segments, put everything on the device, and commit the first generation."""
    passages = sum(record.passages for record in records)
    spec = choose_index(config.index, passages, encoder.fingerprint.dimension)
    template = write_index(store, spec, records, counts, device)
    manifest = Manifest(
        datastore_id=str(uuid.uuid4()),
        generation=1,
        created=utc_now(),
        writer=our_name(),
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


def _check_input(inputs: Sequence[str], config: BuildConfig, counts: Counts) -> None:
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


def _measure(store: Path, manifest: Manifest, counts: Counts) -> OperatingCurve:
    """What recall costs, so that a search may ask for one from the first day."""

    def tell(stage: str, done: int, total: int) -> None:
        counts.tell(stage, manifest.passages * done // total)

    options = TuneOptions(manifest.config.index.tune_queries, seed=manifest.config.index.seed)
    return measure(store, manifest, options, on_progress=tell)


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
