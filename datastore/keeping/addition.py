"""Adding documents to a datastore: with its own encoder, chunking, analyzer and template, in one generation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from datastore.ann.index import Template, check_device
from datastore.ann.spec import IndexSpec
from datastore.cleaning.cleaner import Cleaner
from datastore.cleaning.segment_keys import write_keys
from datastore.config import segment_limit
from datastore.devices import AUTO, DeviceChoice
from datastore.documents import Document
from datastore.encoders.registry import Encoder, open_query_encoder
from datastore.errors import InvalidArgument
from datastore.indexing import open_template, write_codes
from datastore.keeping.distinct import leave_out_duplicates
from datastore.keeping.documents import OpenPassages, StoredDocuments
from datastore.keeping.drift import measured
from datastore.keeping.earlier import StoredTexts
from datastore.keeping.merging import merge_segments
from datastore.keeping.policy import choose_merges
from datastore.segmenting import Written, segment_name, write_segments
from datastore.sources.admission import Admission, check_document
from datastore.sources.found import Found
from datastore.sources.inputs import admitted_inputs
from datastore.sources.rejects import CLEANING_REASONS, RefusedError, Rejects, mend_input
from datastore.store.checksums import FileRecord, record_file
from datastore.store.durable import fsync_path
from datastore.store.generations import FAILED_REJECTS, writing
from datastore.store.manifest import Manifest, RejectSummary, SegmentRecord, publish, read_manifest, succeeding
from datastore.store.segment import SEGMENTS_FOLDER, seal_segment
from datastore.tasks.progress import BuildProgress, OnProgress
from datastore.tasks.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Addition:
    """What `add` came to."""

    manifest: Manifest
    """Of the generation that has the documents; the one before where there was nothing to add."""
    documents: int
    passages: int
    replaced: int
    """Documents of the datastore that newer ones of their ids superseded."""
    known: int
    """Records left out as the datastore has a document of their id."""
    rejects: RejectSummary
    """Records left out for any reason."""
    merged_segments: int
    """That became part of others."""


def add(
    store: Path,
    inputs: Sequence[str],
    *,
    replace_known: bool = False,
    encoder: Encoder | str | None = None,
    device: DeviceChoice = AUTO,
    on_progress: OnProgress = lambda _: None,
) -> Addition:
    """Add the documents of `inputs` once: see `Adder`, which is for many additions, and its `add`."""
    with Adder(store, encoder=encoder, device=device) as adder:
        return adder.add(inputs, replace_known=replace_known, on_progress=on_progress)


class Adder:
    """Adds to a datastore, time and again: encoder, template and the look-ups of ids stay open. For one thread.

    Args:
        encoder: the store's, open or where to load it from; None takes it from where the build did.
        device: where passages are encoded and put into lists.

    Raises:
        NotFound, FailedPrecondition, DataLoss: the store cannot be read, or `encoder` is not the store's.
    """

    def __init__(self, store: Path, *, encoder: Encoder | str | None = None, device: DeviceChoice = AUTO) -> None:
        check_device(device)
        manifest = read_manifest(store)
        wanted = manifest.encoder
        if isinstance(encoder, str) or encoder is None:
            encoder = open_query_encoder(wanted, encoder, device)
        wanted.require_same(encoder.fingerprint, "the encoder")
        self._store = store
        self._encoder = encoder
        self._device = device
        self._cleaner = Cleaner(manifest.config.clean, encoder.encode_queries)
        self._opened = OpenPassages(store)
        self._template: tuple[tuple[IndexSpec, FileRecord | None], Template] | None = None

    def add(
        self, inputs: Sequence[str], *, replace_known: bool = False, on_progress: OnProgress = lambda _: None
    ) -> Addition:
        """Add the documents of `inputs` in one generation; when this returns, searches that begin find them.

        Documents are cleaned as in the build. Where that leaves out duplicates, so does this: of one another, and of
        what is there, which stays. Segments are merged where too many are small (`datastore.keeping.policy`).

        Args:
            replace_known: a document whose id the datastore has takes its place; otherwise it is left out, and counted.

        Raises:
            NotFound, FailedPrecondition, DataLoss: the store cannot be read, or has another encoder by now.
            InvalidArgument: the input cannot be read, has no document, or too many records were rejected.
            Unavailable: another process is writing to the store.
            ResourceExhausted: the disk is full, or a GPU's memory.
        """
        with writing(self._store) as manifest:
            manifest.encoder.require_same(self._encoder.fingerprint, "the encoder")
            template = self._template_of(manifest)
            adding = _Adding(
                self._store, manifest, self._encoder, template, cleaner=self._cleaner, on_progress=on_progress
            )
            return adding.run(inputs, self._opened, replace_known=replace_known)

    def _template_of(self, manifest: Manifest) -> Template:
        key = (manifest.index, manifest.template)
        if self._template is None or self._template[0] != key:
            self._template = key, open_template(self._store, manifest, self._device)
        return self._template[1]

    def close(self) -> None:
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _StoreAdmission(Admission):
    """Admits what the input has once and, unless documents may be replaced, the store does not have."""

    def __init__(self, documents: StoredDocuments, *, replace_known: bool) -> None:
        super().__init__()
        self.known = 0
        self.replaced = 0
        self._documents = documents
        self._replace_known = replace_known

    def check(self, document: Document) -> None:
        super().check(document)
        (place,) = self._documents.find([document.document_id])
        if place is not None and not self._replace_known:
            self.known += 1
            raise RefusedError("duplicate id", f"the datastore has a document {document.document_id!r}")
        if place is not None:
            self._documents.delete([place])
            self.replaced += 1


class _Adding:
    """One addition, under the write lock."""

    def __init__(
        self,
        store: Path,
        manifest: Manifest,
        encoder: Encoder,
        template: Template,
        *,
        cleaner: Cleaner,
        on_progress: OnProgress,
    ) -> None:
        self._store = store
        self._manifest = manifest
        self._generation = manifest.generation + 1
        self._name = partial(segment_name, self._generation)
        self._encoder = encoder
        self._template = template
        self._on_progress = on_progress
        self._cleaner = cleaner
        self._tags: Counter[str] = Counter()
        """Of the document that was masked last."""
        self._masked = Counter(manifest.masked)

    def run(self, inputs: Sequence[str], opened: OpenPassages, *, replace_known: bool) -> Addition:
        manifest, store = self._manifest, self._store
        rejects = Rejects(store / f"rejects-{self._generation}.jsonl")
        documents = StoredDocuments(store, manifest.segments, opened)
        admission = _StoreAdmission(documents, replace_known=replace_known)
        with rejects:
            new = self._write(inputs, rejects, admission, documents)
            rejects.close()
            self._check_input(inputs, rejects, admission, sum(record.documents for record in new))
        if not new and not admission.replaced:  # the datastore has them all
            return Addition(manifest, 0, 0, 0, admission.known, self._nothing_added(rejects), 0)
        old = documents.write(self._generation)
        summary = self._summarize(rejects)
        drift = measured(store, manifest, self._template, new) if new else manifest.drift
        records, merged = self._merge([*old, *new], len(new))
        sealed = [record if record.files else seal_segment(store, record) for record in records]
        fsync_path(store / SEGMENTS_FOLDER)
        masked = dict(sorted(self._masked.items()))
        newer = succeeding(manifest, segments=tuple(sealed), rejects=summary, drift=drift, masked=masked)
        publish(store, newer)
        return Addition(
            newer,
            documents=sum(record.documents for record in new),
            passages=sum(record.passages for record in new),
            replaced=admission.replaced,
            known=admission.known,
            rejects=summary,
            merged_segments=merged,
        )

    def _write(
        self, inputs: Sequence[str], rejects: Rejects, admission: _StoreAdmission, stored: StoredDocuments
    ) -> list[SegmentRecord]:
        """The new segments, with all their files, not sealed yet."""
        config, store = self._manifest.config, self._store
        compared = config.clean.compared

        def read(refused: Rejects) -> Iterator[Found]:
            return self._counted(admitted_inputs(inputs, refused, config.input, admission, (self._mask, self._clean)))

        if compared is None:
            new = self._segments((found.document for found in read(rejects)), rejects)
        else:
            segments = self._manifest.segments
            distinct = leave_out_duplicates(
                Workspace(store), read, compared, lambda: StoredTexts(store, segments, stored, compared), rejects
            )
            new = self._segments(distinct.documents(), rejects)
            start = 0
            for record in new:
                own = distinct.kept[start : start + record.documents]
                write_keys(store, record, compared, distinct.task.signatures, own)
                start += record.documents
        for record in new:
            write_codes(store, self._manifest.index, self._template, record)
        return new

    def _segments(self, documents: Iterator[Document], rejects: Rejects) -> list[SegmentRecord]:
        config, before = self._manifest.config, self._manifest.passages

        def tell(written: Written) -> None:
            self._on_progress(
                BuildProgress("passages", written.documents, written.passages, rejects.total, written.tokens)
            )

        return write_segments(
            documents,
            self._store,
            config,
            self._encoder,
            name=self._name,
            limit=lambda passages: segment_limit(config.segment, before + passages),
            on_progress=tell,
        )

    def _counted(self, documents: Iterator[Found]) -> Iterator[Found]:
        for found in documents:
            self._masked += self._tags
            yield found

    def _mask(self, document: Document) -> Document:
        check_document(document)
        document, self._tags = self._cleaner.mask(document)
        return document

    def _clean(self, document: Document) -> Document:
        self._cleaner.check(document)
        return document

    def _merge(self, records: list[SegmentRecord], written: int) -> tuple[list[SegmentRecord], int]:
        """The segments after what the policy says was merged, and how many became part of others."""
        manifest = self._manifest
        limit = segment_limit(manifest.config.segment, sum(record.live_passages for record in records))
        groups = choose_merges(records, limit)
        gone = {position for group in groups for position in group}
        kept = [record for position, record in enumerate(records) if position not in gone]
        for number, group in enumerate(groups, written):
            members = [records[position] for position in group]
            kept.append(
                merge_segments(
                    self._store,
                    members,
                    self._name(number),
                    spec=manifest.index,
                    analyzer=manifest.config.bm25.analyzer,
                    template=self._template,
                    duplicates=manifest.config.clean.compared,
                )
            )
        return kept, len(gone)

    def _check_input(self, inputs: Sequence[str], rejects: Rejects, admission: _StoreAdmission, documents: int) -> None:
        """Refuse an input that is not what it should be; what it knows, and what cleaning leaves out, is no fault."""
        cleaned = sum(count for reason, count in rejects.by_reason.items() if reason in CLEANING_REASONS)
        refused = rejects.total - admission.known - cleaned
        seen = documents + rejects.total
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(rejects.by_reason.items()))
        allowed = self._manifest.config.input.max_rejected_share
        if not seen or refused == seen:
            raise InvalidArgument(
                f"no document in {', '.join(inputs)}"
                + (f": all {refused} records were rejected ({reasons})" if refused else ""),
                mend=mend_input(rejects.by_reason, "give input with at least one document that has text"),
                field="input",
            )
        if refused > allowed * seen:
            kept = rejects.path.replace(self._store / FAILED_REJECTS)
            raise InvalidArgument(
                f"{refused} of {seen} input records were rejected ({reasons}), more than the share allowed, "
                f"{allowed:g}; nothing was added",
                mend=f"see {kept}, then mend the input",
                field="input",
            )

    def _nothing_added(self, rejects: Rejects) -> RejectSummary:
        """What was left out; its file stays, until the next change, if it tells of more than ids."""
        file = None
        if rejects.by_reason.keys() - {"duplicate id"}:
            file = record_file(self._store, rejects.path.replace(self._store / FAILED_REJECTS))
        return RejectSummary(rejects.total, dict(sorted(rejects.by_reason.items())), file)

    def _summarize(self, rejects: Rejects) -> RejectSummary:
        if rejects.total == 0:
            return RejectSummary(0, {}, None)
        fsync_path(rejects.path)
        file = record_file(self._store, rejects.path)
        return RejectSummary(rejects.total, dict(sorted(rejects.by_reason.items())), file)
