"""Opening a datastore to read it: one generation, the segments of one shard, each file checked for its size."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from datastore.ann.groups import Group, join_groups, open_groups
from datastore.ann.index import AnnIndex, Template, load_template
from datastore.bm25.index import Bm25Index, Bm25Segment
from datastore.devices import CPU, DeviceChoice
from datastore.errors import InvalidArgument, PergamonError
from datastore.filters.cache import SurvivorsCache
from datastore.filters.predicate import Predicate
from datastore.filters.survivors import Survivors, joined
from datastore.store.checksums import FileRecord, FilesCheck, check_file, check_size, reading
from datastore.store.columns import Columns
from datastore.store.deletions import read_live
from datastore.store.exact import ExactVectors
from datastore.store.generations import hold
from datastore.store.manifest import Manifest, SegmentRecord
from datastore.store.parts import Part, Parts
from datastore.store.passages import PassageStore
from datastore.store.segment import BM25, COLUMNS, PASSAGES, SEGMENTS_FOLDER, VECTORS, part_files
from datastore.store.vectors import VectorFile


@dataclass(frozen=True, slots=True)
class Segment:
    """One open segment; row `r` of every part is the same passage."""

    segment_id: str
    passages: PassageStore
    vectors: VectorFile
    columns: Columns
    filters: SurvivorsCache
    live: Survivors
    """The rows that are not deleted."""

    def survivors(self, where: Predicate | None) -> Survivors:
        """The rows that a search may find: for which the filter is true, and which are not deleted."""
        if where is None:
            return self.live
        found = self.filters.survivors(where)
        return found if self.live.count == self.live.passages else found & self.live


class StoreReader:
    """The segments of one shard of a datastore, open for searching; thread-safe.

    It holds its generation until it is closed: writers go on, and leave the files of this one alone.

    Args:
        path: the store's folder.
        shard: (index, count): which part of the segments to open, `0 <= index < count`.
        device: where the codes are searched.
        previous: an open reader of the same shard, at another generation: what both have is not opened again, and
            codes that are joined stay joined, with those of new segments beside them. It may be closed before this one.
        join_all: join the codes of all segments all the same.

    Raises:
        FailedPrecondition, ResourceExhausted: a device that was asked for is not there, or too small.
        NotFound, FailedPrecondition, DataLoss: see `read_manifest`; DataLoss also names a file that is missing or has
            not the recorded size.
    """

    def __init__(
        self,
        path: Path,
        shard: tuple[int, int] = (0, 1),
        device: DeviceChoice = CPU,
        *,
        previous: StoreReader | None = None,
        join_all: bool = False,
    ) -> None:
        self._parts: Parts = Parts() if previous is None else previous._parts
        self.path = path
        self.shard = shard
        with reading(path), contextlib.ExitStack() as opened:
            held = hold(path)
            opened.callback(held.release)
            self.manifest: Manifest = held.manifest
            records = shard_segments(self.manifest.segments, shard)
            for file in [*(file for segment in records for file in segment.files), *_shared_files(self.manifest)]:
                check_size(path, file)
            self.template, groups = self._template(previous, device)
            self.segments = [self._open_segment(record, opened) for record in records]
            vectors = [segment.vectors for segment in self.segments]
            self.vectors = ExactVectors(vectors, self.manifest.encoder.dimension)
            for record in records:
                self._check(record, self.manifest.index.codes_name, opened)()
            codes = [self._folder(record) / self.manifest.index.codes_name for record in records]
            keys = [(record.segment_id, record.files) for record in records]
            self.groups = open_groups(self.template, keys, codes, vectors, () if join_all else groups)
            self.ann: AnnIndex = join_groups(self.groups, self.manifest.index)
            """Rows count on from segment to segment, as in `vectors`."""
            self.bm25 = self._open_bm25(records, opened, check=True) if records else None
            self.bm25_whole = self.bm25 if len(records) == len(self.manifest.segments) else self._open_whole(opened)
            """The BM25 index of the whole datastore, for its statistics; None where not all segments lie here."""
            self.live: Survivors | None = None
            """The rows that are not deleted, counting on from segment to segment; None where none is."""
            if any(record.deletions for record in records):
                self.live = joined([segment.live for segment in self.segments])
            self._opened = opened.pop_all()

    def _template(self, previous: StoreReader | None, device: DeviceChoice) -> tuple[Template, tuple[Group, ...]]:
        """The template, and what is open of its codes."""
        index, file = self.manifest.index, self.manifest.template
        if previous is not None and (index, file) == (previous.manifest.index, previous.manifest.template):
            return previous.template, previous.groups
        if file is not None:
            check_file(self.path, file)
        return load_template(index, self.path / file.path if file else None, device), ()

    def _check(self, record: SegmentRecord, name: str, opened: contextlib.ExitStack) -> FilesCheck:
        """Compares the checksums of one part of a segment, a file or a folder, once for all generations that have it.

        Passages and exact vectors have checksums of their blocks instead, which are compared as they are read.
        """
        key = (f"check {name}", record.segment_id, record.files)
        return self._parts.hold(key, partial(FilesCheck, self.path, part_files(record, name)), opened)

    @property
    def live_passages(self) -> int:
        """Of the shard: what a search goes over."""
        return sum(segment.live.count for segment in self.segments)

    def accept(self, where: Predicate | None) -> list[Survivors] | None:
        """The rows of each segment that a search may find; None for all."""
        if where is None and self.live is None:
            return None
        return [segment.survivors(where) for segment in self.segments]

    def _folder(self, record: SegmentRecord) -> Path:
        return self.path / SEGMENTS_FOLDER / record.segment_id

    def _open_bm25(
        self, records: Sequence[SegmentRecord], opened: contextlib.ExitStack, *, check: bool = False
    ) -> Bm25Index:
        """Args:
        check: compare checksums before the first search. Those of other shards' segments are for them to compare.
        """
        folders = [self._folder(record) / BM25 for record in records]
        for file in (file for record in records for file in record.files):
            if (self.path / file.path).parent in folders:
                check_size(self.path, file)
        checks = [self._check(record, BM25, opened) for record in records] if check else []
        try:
            segments = [
                self._parts.hold((BM25, record.segment_id, record.files), partial(Bm25Segment, folder), opened)
                for record, folder in zip(records, folders, strict=True)
            ]
            index = Bm25Index(folders, self.manifest.config.bm25.analyzer, segments, partial(_check_all, checks))
        except PergamonError:
            _check_all(checks)  # Lucene has words of many kinds for damage, and does not name the file
            raise
        opened.callback(index.close)
        return index

    def _open_whole(self, opened: contextlib.ExitStack) -> Bm25Index | None:
        try:
            with contextlib.ExitStack() as whole:
                index = self._open_bm25(self.manifest.segments, whole)
                opened.push(whole.pop_all())
                return index
        except PergamonError:  # of another shard's segments, which this one can do without
            return None

    def _open_segment(self, record: SegmentRecord, opened: contextlib.ExitStack) -> Segment:
        folder, rows, dimension = self._folder(record), record.passages, self.manifest.encoder.dimension

        def part(name: str, open_part: Callable[[], Part]) -> Part:
            return self._parts.hold((name, record.segment_id, record.files), open_part, opened)

        vectors = part(VECTORS, lambda: VectorFile(folder / VECTORS, rows, dimension))
        passages = part(PASSAGES, lambda: PassageStore(folder / PASSAGES))
        self._check(record, COLUMNS, opened)()
        filters = part(COLUMNS, lambda: SurvivorsCache(Columns(folder / COLUMNS, rows)))
        live = read_live(self.path, record)
        return Segment(record.segment_id, passages, vectors, filters.columns, filters, live)

    def close(self) -> None:
        """Let go of everything; what another reader has in common with this one stays open for that."""
        self._opened.close()


def shard_segments(segments: Sequence[SegmentRecord], shard: tuple[int, int]) -> list[SegmentRecord]:
    """The segments of one shard: largest first, each to the shard that has the fewest passages so far.

    Every process comes to the same placement from the manifest alone. A shard may get none.
    """
    index, count = shard
    if not 0 <= index < count:
        raise InvalidArgument(
            f"shard is {index}/{count}; wanted I/N with 0 <= I < N",
            mend=f"number shards from 0 to {max(count - 1, 0)}",
            field="shard",
        )
    loads = [0] * count
    chosen = []
    for record in sorted(segments, key=lambda segment: (-segment.passages, segment.segment_id)):
        lightest = loads.index(min(loads))
        loads[lightest] += record.passages
        if lightest == index:
            chosen.append(record)
    return sorted(chosen, key=lambda segment: segment.segment_id)


def _check_all(checks: Sequence[FilesCheck]) -> None:
    for check in checks:
        check()


def _shared_files(manifest: Manifest) -> list[FileRecord]:
    return [manifest.template] if manifest.template else []
