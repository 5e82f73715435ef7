"""Repair: damaged files made anew from what is whole, in one generation.

Passages are what all else can be made of. BM25 index and columns come from them, exact vectors by encoding them again
(only those whose checksums do not hold), codes from the vectors, and the template by training on the vectors. Passages
themselves cannot be made anew, nor lists of what is deleted: a snapshot may have them (`taking`); otherwise what cannot
be read is reported, and dropped, or brought back (`deletions`), only when that is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from datastore.ann.spec import CODES_NAMES
from datastore.devices import AUTO, DeviceChoice
from datastore.encoders.registry import open_query_encoder
from datastore.indexing import open_template, write_codes
from datastore.keeping.compaction import Compacting
from datastore.repairing.deletions import undelete
from datastore.repairing.manifests import Action, current_manifest, mend_manifests
from datastore.repairing.segments import Remains, inspect, rewrite
from datastore.repairing.taking import take_damaged
from datastore.segmenting import segment_name
from datastore.store.checksums import FileRecord, is_whole
from datastore.store.deletions import read_deleted
from datastore.store.durable import fsync_path
from datastore.store.generations import writing
from datastore.store.manifest import Manifest, SegmentRecord, publish, succeeding
from datastore.store.refusals import storage_errors
from datastore.store.segment import PASSAGES, SEGMENTS_FOLDER, VECTORS, seal_segment
from datastore.verify import verify

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What `repair` did; in a dry run, what it would do."""

    generation: int
    """That the store has afterwards."""
    actions: tuple[Action, ...]
    lost_documents: tuple[str, ...]
    """Of which a passage cannot be read."""
    unrepaired: tuple[str, ...]
    """What is still damaged, one line each."""
    dry_run: bool


@dataclass
class _Findings:
    actions: list[Action] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    unrepaired: list[str] = field(default_factory=list)


def repair(
    store: Path,
    *,
    dry_run: bool = False,
    drop_damaged: bool = False,
    bring_back: bool = False,
    source: str | None = None,
    encoder: str | None = None,
    device: DeviceChoice = AUTO,
) -> RepairReport:
    """Make a damaged datastore whole again, as a new generation, and verify the result.

    Args:
        dry_run: change nothing; say what would be done.
        drop_damaged: leave out documents of which a passage cannot be read. Without, their segment stays as it is.
        bring_back: where it is not known any more which documents of a segment are deleted, have them all again, but
            those that were replaced. Without, such a segment stays as it is.
        source: a snapshot of the datastore, of any generation: what is damaged here and whole there is taken from it.
        encoder: where to load the store's from, should vectors have to be made anew.
        device: where passages are encoded and an index is trained.

    Raises:
        NotFound: there is no datastore, nor a copy of its manifest; or no snapshot.
        DataLoss: the manifest is damaged, and so are all its copies.
        FailedPrecondition: the store is of another version, or the encoder differs.
        Unavailable: another process is writing to the store.
        ResourceExhausted, InvalidArgument: the disk is full, the folder cannot be written.
    """
    findings = _Findings()
    manifest, data = current_manifest(store)
    with storage_errors(store):
        findings.actions += mend_manifests(store, manifest, data, dry_run=dry_run)
        with nullcontext(manifest) if dry_run else writing(store, damaged=True) as current:
            actions = [] if source is None else take_damaged(store, current.files(), source, dry_run=dry_run)
            before = current
            if bring_back:
                done = {action.path for action in actions}
                before, undone = undelete(store, current, without=done, dry_run=dry_run)
                actions += undone
            findings.actions += actions
            repairing = _Repair(store, before, findings, drop_damaged=drop_damaged, encoder=encoder, device=device)
            if dry_run:
                repairing.look(expected=frozenset(action.path for action in actions))
            after = before if dry_run else repairing.run()
        if not (dry_run or findings.unrepaired):
            findings.unrepaired += verify(store).problems
    return _report(after.generation, findings, dry_run=dry_run)


def _report(generation: int, findings: _Findings, *, dry_run: bool) -> RepairReport:
    return RepairReport(generation, tuple(findings.actions), tuple(findings.lost), tuple(findings.unrepaired), dry_run)


class _Repair:
    """One repair, of a store whose manifest is in order; `run` needs its write lock."""

    def __init__(
        self,
        store: Path,
        manifest: Manifest,
        findings: _Findings,
        *,
        drop_damaged: bool,
        encoder: str | None,
        device: DeviceChoice,
    ) -> None:
        self._store = store
        self._before = manifest
        self._findings = findings
        self._drop_damaged = drop_damaged
        self._device = device
        self._expected: frozenset[str] = frozenset()
        self._open_encoder = cache(partial(open_query_encoder, manifest.encoder, encoder, device))

    def look(self, expected: frozenset[str] = frozenset()) -> tuple[dict[str, Remains], bool, Mapping[str, Any]]:
        """(segment -> what is left of it, for those to be written anew; whether the template is; changes of the
        manifest to let go of what is for people alone).

        Args:
            expected: files that will have been mended before, and count as whole.
        """
        self._expected = expected
        before, remains = self._before, {}
        for record in before.segments:
            damaged = self._damaged_parts(record)
            if record.deletions is not None and not self._whole(record.deletions.file):
                path, passages = self._store / record.deletions.file.path, record.deletions.passages
                self._findings.unrepaired.append(
                    f"{path} is damaged: which {passages} passages of {record.segment_id} are deleted is not known"
                )
            elif damaged and (left := self._left(record, damaged)) is not None:
                remains[record.segment_id] = left
        template = before.template is not None and not self._whole(before.template)
        if template and before.template is not None:
            self._act(before.template.path, "trained anew on the exact vectors, and all codes with it")
        let_go: dict[str, Any] = {}
        if before.rejects.file is not None and not self._whole(before.rejects.file):
            self._act(before.rejects.file.path, "removed: what it listed was no part of the datastore")
            let_go["rejects"] = replace(before.rejects, file=None)
        if before.log is not None and not self._whole(before.log):
            self._act(before.log.path, "removed: it told of the build")
            let_go["log"] = None
        return remains, template, let_go

    def run(self) -> Manifest:
        before = self._before
        remains, template, let_go = self.look()
        if template and self._findings.unrepaired:
            return before  # nothing sound can be trained on
        if not (remains or template or let_go):
            return before
        written: list[SegmentRecord] = []
        for record in before.segments:
            if record.segment_id in remains:
                made = self._rewritten(record, remains[record.segment_id], len(written))
                written += [] if made is None else [made]
        kept = [record for record in before.segments if record.segment_id not in remains]
        if template:
            after = Compacting(self._store, before, self._device, lambda stage, done, total: None).retrained(
                before.index, kept, written
            )
        else:
            if written:
                trained = open_template(self._store, before, self._device)
                for record in written:
                    write_codes(self._store, before.index, trained, record)
            sealed = [seal_segment(self._store, record) for record in written]
            after = succeeding(before, segments=(*kept, *sealed))
        after = replace(after, **let_go)
        fsync_path(self._store / SEGMENTS_FOLDER)
        fsync_path(self._store)
        publish(self._store, after)
        return after

    def _act(self, path: str, what: str) -> None:
        self._findings.actions.append(Action(path, what))

    def _whole(self, file: FileRecord) -> bool:
        return file.path in self._expected or is_whole(self._store, file)

    def _damaged_parts(self, record: SegmentRecord) -> dict[str, list[str]]:
        """Part of a segment -> its damaged files."""
        parts: dict[str, list[str]] = {}
        for file in record.files:
            if not self._whole(file):
                parts.setdefault(file.path.split("/")[2], []).append(file.path)
        return parts

    def _left(self, record: SegmentRecord, damaged: dict[str, list[str]]) -> Remains | None:
        """What is left of a damaged segment; None where it stays as it is."""
        before = self._before
        known = record.deletions is None or record.deletions.file.path not in self._expected
        deleted = read_deleted(self._store, record) if known else np.zeros(record.passages, bool)
        left = inspect(self._store, record, set(damaged), deleted, before.encoder.dimension)
        self._findings.lost += left.lost
        if left.lost and not self._drop_damaged:
            shown = ", ".join(left.lost[:_SHOWN]) + (", …" if len(left.lost) > _SHOWN else "")
            self._findings.unrepaired.append(
                f"{self._store / damaged[PASSAGES][0]} is damaged: {len(left.lost)} documents cannot be read whole "
                f"({shown})"
            )
            return None
        for part, paths in damaged.items():
            for path in paths:
                self._act(path, self._what(part, left, record))
        return left

    def _what(self, part: str, left: Remains, record: SegmentRecord) -> str:
        if part == PASSAGES:
            lost = f"; {len(left.lost)} documents are dropped" if left.lost else ""
            return (
                f"written anew from the {int(left.passages.sum())} of {record.passages} passages that can be read{lost}"
            )
        if part == VECTORS:
            missing = int(np.count_nonzero(~left.vectors[left.rows]))
            return f"made anew: {missing} of {len(left.rows)} passages encoded again, the other vectors copied"
        if part in CODES_NAMES:
            return "made anew from the exact vectors"
        return "made anew from the vectors" if part.startswith("vectors") else "made anew from the passages"

    def _rewritten(self, record: SegmentRecord, left: Remains, number: int) -> SegmentRecord | None:
        return rewrite(
            self._store,
            record,
            segment_name(self._before.generation + 1, number),
            left,
            dimension=self._before.encoder.dimension,
            analyzer=self._before.config.bm25.analyzer,
            encoder=self._open_encoder,
            duplicates=self._before.config.clean.compared,
        )
