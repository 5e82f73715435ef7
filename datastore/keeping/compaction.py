"""Compaction: segments rewritten without what was deleted, small ones put together, the index trained anew if asked.

Deleted passages are then in no file that the datastore names; those that had them go as soon as no reader holds an
earlier generation.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from datastore.ann.index import check_device, load_template
from datastore.ann.spec import CODES_NAMES, IndexSpec, choose_index
from datastore.config import segment_limit
from datastore.devices import AUTO, DeviceChoice
from datastore.indexing import open_template, write_codes, write_template
from datastore.keeping.merging import merge_segments
from datastore.keeping.policy import choose_compaction
from datastore.segmenting import segment_name
from datastore.store.checksums import check_file, record_file
from datastore.store.durable import fsync_path
from datastore.store.generations import collect, writing
from datastore.store.manifest import Manifest, SegmentRecord, publish, succeeding
from datastore.store.segment import SEGMENTS_FOLDER, seal_segment
from datastore.tune import TuneOptions, measure

OnProgress = Callable[[str, int, int], None]
"""(stage, done, in all): passages rewritten in the stage `merge`, encoded in `index`; as `tune` in `truth`, `sweep`."""


@dataclass(frozen=True, slots=True)
class Compaction:
    """What `compact` came to."""

    manifest: Manifest
    """Of the generation that is compact; the one before where there was nothing to do."""
    before: Manifest
    rewritten_segments: int
    retrained: bool
    held_generations: int
    """Earlier ones that readers hold, so that their files are still there."""


def compact(
    store: Path,
    *,
    retrain: bool = False,
    device: DeviceChoice = AUTO,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> Compaction:
    """Rewrite what has deletions and put small segments together, in one generation.

    Codes are reused, unless the index is trained anew: when that is asked for, or when the datastore has grown out of
    a flat index that its settings did not ask for.

    Args:
        retrain: train the index anew over what is there now, with the parameters that a build would choose.
        device: where an index is trained.

    Raises:
        NotFound, FailedPrecondition, DataLoss: the store cannot be read.
        InvalidArgument: there are too few passages to train the index that the settings ask for.
        Unavailable: another process is writing to the store.
        ResourceExhausted: the disk is full, or a GPU's memory.
    """
    check_device(device)
    with writing(store) as before:
        after, rewritten, retrained = Compacting(store, before, device, on_progress).run(retrain=retrain)
        return Compaction(after, before, rewritten, retrained, held_generations=collect(store))


class Compacting:
    """One compaction, under the write lock."""

    def __init__(self, store: Path, before: Manifest, device: DeviceChoice, on_progress: OnProgress) -> None:
        self._store = store
        self._before = before
        self._device = device
        self._on_progress = on_progress
        self._generation = before.generation + 1
        self._name = partial(segment_name, self._generation)

    def run(self, *, retrain: bool) -> tuple[Manifest, int, bool]:
        """(the generation after it, segments rewritten, whether the index was trained anew)."""
        before = self._before
        spec = self._spec(retrain=retrain)
        groups = choose_compaction(before.segments, segment_limit(before.config.segment, before.passages))
        if not groups and spec is None and before.rejects.file is None:
            return before, 0, False
        gone = {position for group in groups for position in group}
        kept = [record for position, record in enumerate(before.segments) if position not in gone]
        merged = self._merge(groups, reuse_codes=spec is None)
        if spec is None:
            segments = [*kept, *(seal_segment(self._store, record) for record in merged)]
            after = succeeding(before, segments=tuple(segments))
        else:
            after = self.retrained(spec, kept, merged)
        # Excerpts of what was left out of an input may be of documents that were deleted since.
        after = replace(after, rejects=replace(before.rejects, file=None))
        fsync_path(self._store / SEGMENTS_FOLDER)
        fsync_path(self._store)
        publish(self._store, after)
        return after, len(gone), spec is not None

    def _spec(self, *, retrain: bool) -> IndexSpec | None:
        """Of the index to train; None to keep the one that there is."""
        before = self._before
        may_outgrow = before.index.kind == "flat" and before.config.index.kind == "auto"
        if not before.passages or not (retrain or may_outgrow):
            return None
        chosen = choose_index(before.config.index, before.passages, before.encoder.dimension)
        return None if chosen.kind == "flat" and before.index.kind == "flat" else chosen

    def _merge(self, groups: Sequence[tuple[int, ...]], *, reuse_codes: bool) -> list[SegmentRecord]:
        before = self._before
        total = sum(before.segments[position].live_passages for group in groups for position in group)
        template = open_template(self._store, before, self._device) if reuse_codes else None
        merged: list[SegmentRecord] = []
        for group in groups:
            self._on_progress("merge", sum(record.passages for record in merged), total)
            members = [before.segments[position] for position in group]
            merged.append(
                merge_segments(
                    self._store,
                    members,
                    self._name(len(merged)),
                    spec=before.index,
                    analyzer=before.config.bm25.analyzer,
                    template=template,
                    duplicates=before.config.clean.compared,
                )
            )
        return merged

    def retrained(self, spec: IndexSpec, kept: Sequence[SegmentRecord], merged: Sequence[SegmentRecord]) -> Manifest:
        """The next generation with an index of `spec`. Segments that stay get new codes under new names."""
        store, before = self._store, self._before
        linked = [_linked(store, record, self._name(number)) for number, record in enumerate(kept, len(merged))]
        records = [*linked, *merged]
        total = sum(record.passages for record in records)
        self._on_progress("index", 0, total)
        stem, suffix = spec.template_name.split(".")
        path = write_template(store, spec, records, self._device, name=f"{stem}-{self._generation}.{suffix}")
        template = load_template(spec, path, self._device)
        done = 0
        for record in records:
            write_codes(store, spec, template, record)
            done += record.passages
            self._on_progress("index", done, total)
        after = succeeding(
            before,
            index=spec,
            template=record_file(store, path) if path else None,
            segments=tuple(seal_segment(store, record) for record in records),
            operating_curve=None,
            drift=None,
        )
        queries = before.config.index.tune_queries
        if spec.kind == "flat" or not queries:
            return after
        options = TuneOptions(queries, seed=before.config.index.seed)
        return replace(after, operating_curve=measure(store, after, options, on_progress=self._on_progress))


def _linked(store: Path, record: SegmentRecord, segment_id: str) -> SegmentRecord:
    """The same segment under another name, without codes, sharing its files where the file system lets it."""
    source, target = store / SEGMENTS_FOLDER / record.segment_id, store / SEGMENTS_FOLDER / segment_id
    for file in record.files:
        path = store / file.path
        if path.name in CODES_NAMES:
            continue
        check_file(store, file)  # it is recorded anew, whatever it has become
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, copy)
        except OSError:
            shutil.copyfile(path, copy)
    return replace(record, segment_id=segment_id, files=())
