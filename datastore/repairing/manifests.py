"""The manifest in order: which of those that lie in a store is its own, and what becomes of the others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datastore.errors import DataLoss, NotFound, PergamonError
from datastore.store.durable import replace_file
from datastore.store.generations import check_there, kept_copies
from datastore.store.lock import LOCK_NAME, write_lock
from datastore.store.manifest import (
    GENERATIONS_FOLDER,
    MANIFEST_NAME,
    Manifest,
    decode_manifest,
    generation_path,
    read_manifest_bytes,
)


@dataclass(frozen=True, slots=True)
class Action:
    """What was done about one file, or would be."""

    path: str
    """Relative to the store."""
    what: str


def current_manifest(store: Path) -> tuple[Manifest, bytes]:
    """The current generation's manifest, and its bytes.

    That is `manifest.json`, or the newest copy where that cannot be read. A `manifest.json` whose files are not there
    gives way to a copy whose files are, if that is of another datastore or of a newer generation: then somebody has put
    another's or an old one in its place.

    Raises:
        NotFound, InvalidArgument, DataLoss, FailedPrecondition: see `read_manifest`; and there is no copy.
    """
    copies = kept_copies(store)[::-1]
    try:
        data = read_manifest_bytes(store)
        manifest = decode_manifest(store / MANIFEST_NAME, data)
    except (DataLoss, NotFound):
        if not copies:
            raise
        return copies[0]
    if not _is_there(store, manifest):
        for copy, copied in copies:
            displaced = copy.datastore_id != manifest.datastore_id or copy.generation > manifest.generation
            if displaced and _is_there(store, copy):
                return copy, copied
    return manifest, data


def _is_there(store: Path, manifest: Manifest) -> bool:
    try:
        check_there(store, manifest)
    except DataLoss:
        return False
    return True


def mend_manifests(store: Path, manifest: Manifest, data: bytes, *, dry_run: bool) -> list[Action]:
    """Put the manifest in order, the copies that its readers lock, and the lock; what was done, or would be."""
    actions = []
    mended: list[tuple[Path, bytes | None]] = []
    current = store / MANIFEST_NAME
    if not current.exists() or current.read_bytes() != data:
        mended.append((current, data))
        actions.append(Action(MANIFEST_NAME, f"taken from the copy of generation {manifest.generation}"))
    own = generation_path(store, manifest.generation)
    for path in sorted((store / GENERATIONS_FOLDER).glob("*.json")):
        name = path.relative_to(store).as_posix()
        if path == own:
            if path.read_bytes() != data:
                mended.append((path, data))
                actions.append(Action(name, f"taken from {MANIFEST_NAME}"))
        elif not _is_copy(store, path, manifest.datastore_id):
            mended.append((path, None))
            actions.append(Action(name, "removed: it is not of a generation of this datastore"))
    lock = store / LOCK_NAME
    if lock.is_file() and lock.stat().st_size:
        actions.append(Action(LOCK_NAME, "emptied"))
    if not dry_run:
        with write_lock(store):
            for path, content in mended:
                if content is None:
                    path.unlink()
                else:
                    replace_file(path, content)
            if lock.stat().st_size:
                lock.write_bytes(b"")
    return actions


def _is_copy(store: Path, path: Path, datastore_id: str) -> bool:
    try:
        copy = decode_manifest(path, path.read_bytes())
    except PergamonError:
        return False
    return copy.datastore_id == datastore_id and generation_path(store, copy.generation) == path
