"""Snapshots: one generation of a datastore, byte for byte, in another place, and back.

A snapshot has the same files as the store, and its manifest last, so that what has no manifest is no snapshot. As files
of a store never change, the next snapshot sends only what is new, and removes what it no longer names when it is there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from datastore.errors import AlreadyExists, DataLoss, FailedPrecondition, InvalidArgument, NotFound
from datastore.snapshots.places import Folder, Place, open_place
from datastore.store.checksums import FileRecord
from datastore.store.durable import fsync_path, replace_file
from datastore.store.generations import hold, kept_generations
from datastore.store.lock import LOCK_NAME, write_lock
from datastore.store.manifest import (
    DELETIONS_FOLDER,
    GENERATIONS_FOLDER,
    MANIFEST_NAME,
    OWN_FILE,
    Manifest,
    decode_manifest,
    generation_path,
    keep_copy,
)
from datastore.store.refusals import refuse_url, storage_errors
from datastore.store.segment import SEGMENTS_FOLDER

_OWN_NAMES = {SEGMENTS_FOLDER, DELETIONS_FOLDER, GENERATIONS_FOLDER, LOCK_NAME}
"""What may lie where a snapshot is made, or a store restored, beside files of the store's own."""

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class SnapshotReport:
    """What was done; sizes are in bytes."""

    generation: int
    files: int
    bytes: int
    files_sent: int
    bytes_sent: int
    """Linked files, which take no space, are not counted."""
    files_linked: int


def snapshot(
    store: Path, target: str, on_progress: OnProgress = lambda done, total: None, *, check: bool = False
) -> SnapshotReport:
    """Put the store's current generation at `target`, a folder or a URL of fsspec's.

    The generation is held meanwhile: readers and writers go on. Every file that is sent is compared with its checksum,
    so that damage is found and not copied.

    Args:
        on_progress: told the bytes done and the bytes in all.
        check: read back every file of the snapshot, those that were there before too, and send anew what is not what
            was recorded. Without it a URL is trusted with what it was given, as long as sizes agree; folders never are.

    Raises:
        AlreadyExists: the target holds another datastore's snapshot, a newer generation of this one, or files that are
            not ours.
        DataLoss: a file of the store is not what was written.
        Unavailable, ResourceExhausted, FailedPrecondition, InvalidArgument: the target cannot be written.
    """
    place = open_place(target, check=check)
    if isinstance(place, Folder) and place.lies_in(store):
        raise InvalidArgument(
            f"{target} lies in the store {store}", mend="choose a place outside of it", field="target"
        )
    with storage_errors(Path(target)), closing(_Held(store)) as held:
        manifest, data = held.manifest, held.data
        before, there_now = _snapshot_at(place, target)
        if before is not None and there_now != data:
            _refuse_other(before, target, manifest, store)
        _refuse_foreign(place.names(), target, manifest if before is None else before)
        there = {} if before is None else {record.path: record for record in before.files()}
        tally = _Tally(manifest, on_progress)
        for record in manifest.files():
            listed = there.get(record.path) == record
            if (listed or before is None) and place.has(record, listed=listed):
                tally.add(record, sent=False, linked=False)
            else:
                tally.add(record, sent=True, linked=place.take(store, record))
        copy = generation_path(Path(), manifest.generation).as_posix()
        place.publish(copy, data)
        place.publish(MANIFEST_NAME, data)
        if before is not None:
            if before.generation != manifest.generation:
                place.remove(generation_path(Path(), before.generation).as_posix())
            for path in sorted(there.keys() - {record.path for record in manifest.files()}):
                place.remove(path)
        return tally.report()


def restore(target: str, store: Path, on_progress: OnProgress = lambda done, total: None) -> SnapshotReport:
    """Make a datastore in the folder `store` from the snapshot at `target`: the same, byte for byte.

    A restore that was interrupted is gone on with by running it again; until the end, the folder holds no datastore.

    Raises:
        NotFound: there is no snapshot.
        AlreadyExists: the folder holds a datastore, or files that are not ours.
        DataLoss: the snapshot is not what was made.
        Unavailable, ResourceExhausted, InvalidArgument: a place cannot be read or written.
    """
    refuse_url(store, "store")
    place = open_place(target)
    manifest, data = _snapshot_at(place, target)
    if manifest is None:
        raise NotFound(
            f"there is no snapshot at {target}: it has no {MANIFEST_NAME}",
            mend=f"make one: pergamon snapshot STORE {target}",
        )
    _refuse_occupied(store, manifest)
    with storage_errors(store), write_lock(store):
        _refuse_occupied(store, manifest)
        own = open_place(str(store))
        tally = _Tally(manifest, on_progress)
        for record in manifest.files():
            if own.has(record, listed=False):
                tally.add(record, sent=False, linked=False)
            else:
                place.give(store, record)
                tally.add(record, sent=True, linked=False)
        fsync_path(store)
        fsync_path(store.absolute().parent)
        keep_copy(store, manifest.generation, data)
        replace_file(store / MANIFEST_NAME, data)
        return tally.report()


class _Held:
    """The store's current generation, for as long as it is copied."""

    def __init__(self, store: Path) -> None:
        self._held = hold(store)
        self.manifest = self._held.manifest
        self.data = b""
        """The bytes of its manifest."""
        # Its own copy outlives the next publication; a store from before there were copies has none, nor a collector.
        for path in (generation_path(store, self.manifest.generation), store / MANIFEST_NAME):
            if path.exists() and decode_manifest(path, data := path.read_bytes()) == self.manifest:
                self.data = data
                return
        self.close()
        raise DataLoss(
            f"{generation_path(store, self.manifest.generation)} is not the manifest of that generation",
            mend=f"run pergamon repair {store}",
        )

    def close(self) -> None:
        self._held.release()


class _Tally:
    def __init__(self, manifest: Manifest, on_progress: OnProgress) -> None:
        self._generation = manifest.generation
        self._total = sum(record.bytes for record in manifest.files())
        self._on_progress = on_progress
        self._files = self._bytes = self._files_sent = self._bytes_sent = self._linked = 0

    def add(self, record: FileRecord, *, sent: bool, linked: bool) -> None:
        self._files += 1
        self._bytes += record.bytes
        self._files_sent += sent
        self._bytes_sent += record.bytes * (sent and not linked)
        self._linked += linked
        self._on_progress(self._bytes, self._total)

    def report(self) -> SnapshotReport:
        return SnapshotReport(
            self._generation, self._files, self._bytes, self._files_sent, self._bytes_sent, self._linked
        )


def _snapshot_at(place: Place, target: str) -> tuple[Manifest | None, bytes]:
    """(manifest, its bytes) of the snapshot that is there."""
    data = place.read(MANIFEST_NAME)
    return (None, b"") if data is None else (decode_manifest(Path(target, MANIFEST_NAME), data), data)


def _refuse_other(before: Manifest, target: str, manifest: Manifest, store: Path) -> None:
    """Refuse to put a generation in the place of what it did not come after: that would be lost."""
    if before.datastore_id != manifest.datastore_id:
        raise AlreadyExists(
            f"{target} holds a snapshot of the datastore {before.datastore_id}; {store} is {manifest.datastore_id}",
            mend="choose another place, one for each datastore",
            field="target",
        )
    if before.generation >= manifest.generation:
        other = "another " if before.generation == manifest.generation else ""
        raise AlreadyExists(
            f"{target} holds {other}generation {before.generation} of the datastore; {store} is at generation "
            f"{manifest.generation}",
            mend="choose another place, or remove that one first",
            field="target",
        )


def _refuse_foreign(names: set[str], where: str, manifest: Manifest) -> None:
    """Refuse what is neither of this generation, a part of it that was put there before, nor what every store has."""
    own = {part for record in manifest.files() for part in (record.path.split("/")[0], f"{record.path}.tmp")}
    foreign = sorted(name for name in names - own - _OWN_NAMES if not OWN_FILE.fullmatch(name))
    if foreign:
        raise AlreadyExists(
            f"{where} holds {foreign[0]!r}, which no snapshot has",
            mend="choose a new or empty place",
            field="target",
        )


def _refuse_occupied(store: Path, manifest: Manifest) -> None:
    if (store / MANIFEST_NAME).exists():
        raise AlreadyExists(
            f"{store} holds a datastore", mend="restore into another folder, or remove this one first", field="store"
        )
    for kept in kept_generations(store):
        if kept.datastore_id != manifest.datastore_id:
            raise AlreadyExists(
                f"{store} holds another datastore, which has lost its {MANIFEST_NAME}",
                mend="restore into another folder, or remove this one first",
                field="store",
            )
    if store.exists() and not store.is_dir():
        raise FailedPrecondition(f"{store} is not a folder", mend="restore into a new folder")
    _refuse_foreign({path.name for path in store.iterdir()} if store.is_dir() else set(), str(store), manifest)
