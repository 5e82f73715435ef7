"""Generations that follow one another: held by readers, made by one writer at a time, collected when nobody reads them.

A reader holds a shared `flock` on the copy of its generation's manifest for as long as it is open. A writer holds the
store's write lock, publishes last, and then removes what neither the current generation nor a held one names: files
that a newer generation has superseded, and what a writer that died has left.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from datastore.errors import DataLoss, PergamonError, ResourceExhausted
from datastore.store.checksums import check_size
from datastore.store.lock import write_lock
from datastore.store.manifest import (
    DELETIONS_FOLDER,
    GENERATIONS_FOLDER,
    MANIFEST_NAME,
    OWN_FILE,
    Manifest,
    decode_manifest,
    generation_path,
    keep_copy,
    read_manifest,
    read_manifest_bytes,
)
from datastore.store.refusals import exhausted, storage_errors
from datastore.store.segment import SEGMENTS_FOLDER
from datastore.tasks.workspace import WORK_FOLDER

FAILED_REJECTS = "rejects-failed.jsonl"
"""What was left out of an input that was refused for it, until the next writer begins."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_COLLECTED_S = 0.002
"""Between looks at a generation that is being collected just now."""


class HeldGeneration:
    """A generation whose files stay until `release`, or until this process ends.

    Nothing is written for it, so the store may lie on a read-only file system. Where no lock can be had (a store from
    before generations were kept, a file system without locks) it is read without: no writer of such stores collects.
    """

    def __init__(self, manifest: Manifest, descriptor: int | None) -> None:
        self.manifest = manifest
        self._descriptor = descriptor

    def release(self) -> None:
        """Let the generation be collected. Does nothing the second time."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def hold(store: Path) -> HeldGeneration:
    """The store's current generation, held. Raises what `read_manifest` raises."""
    while True:
        data = read_manifest_bytes(store)
        manifest = decode_manifest(store / MANIFEST_NAME, data)
        try:
            held = HeldGeneration(manifest, _lock_shared(generation_path(store, manifest.generation)))
        except BlockingIOError:
            time.sleep(_COLLECTED_S)
            continue
        try:
            if read_manifest_bytes(store) == data:  # it was current when the lock was had: no collector can pass it
                return held
        except BaseException:
            held.release()
            raise
        held.release()


def _lock_shared(path: Path) -> int | None:
    """A descriptor that holds it; None where none can be had. BlockingIOError while it is being collected."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if short := exhausted(path, error):
            raise short from None
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in _NO_LOCKS:
            return None
        raise
    return descriptor


@contextmanager
def writing(store: Path, *, damaged: bool = False) -> Iterator[Manifest]:
    """Hold the store's write lock over its current generation, to `publish` the one after it.

    What is superseded, or was left by a writer that failed, is collected before and after.

    Args:
        damaged: although files may be missing, to repair it. What was published over another's manifest, or over an
            old one that was put back, would be lost when the right one is.

    Raises:
        NotFound, FailedPrecondition, DataLoss: see `read_manifest`. DataLoss, too, where a file that searches need is
            missing or has another size, or the manifest is not that of the generations that lie in the store.
        Unavailable: another process is writing.
        ResourceExhausted, InvalidArgument: the disk is full, the folder cannot be written.
    """
    read_manifest(store)  # before the lock, which would make a folder where there is none
    with storage_errors(store), write_lock(store):
        data = read_manifest_bytes(store)
        manifest = decode_manifest(store / MANIFEST_NAME, data)
        if not damaged:
            check_there(store, manifest)
            _check_copies(store, manifest)
        if not generation_path(store, manifest.generation).exists():
            keep_copy(store, manifest.generation, data)
        collect(store)
        _remove(store / FAILED_REJECTS)
        try:
            yield manifest
        finally:
            with suppress(ResourceExhausted):
                collect(store)


def _check_copies(store: Path, manifest: Manifest) -> None:
    for copy in kept_generations(store):
        if copy.datastore_id != manifest.datastore_id:
            raise DataLoss(
                f"{store / MANIFEST_NAME} is of the datastore {manifest.datastore_id}; "
                f"{generation_path(store, copy.generation)} of {copy.datastore_id}",
                mend=f"run pergamon repair {store}",
            )


def collect(store: Path) -> int:
    """Remove what no generation names that is current or held; for the holder of the write lock.

    What cannot be removed now is left for the next writer. While the current generation lacks a file, nothing goes: its
    manifest may be another's, or an older one that was put back, and what it does not name be all that there is.

    Returns:
        Superseded generations that readers hold.

    Raises:
        ResourceExhausted: there are too many files open to look; nothing has gone.
    """
    current = read_manifest(store)
    named = {record.path for record in current.files()}
    held, over = 0, []
    try:
        for path in sorted((store / GENERATIONS_FOLDER).glob("*")):
            if path == generation_path(store, current.generation):
                continue
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                held += 1
                named |= {record.path for record in decode_manifest(path, path.read_bytes()).files()}
            else:
                over.append((path, descriptor))
        check_there(store, current)
        for path in _unnamed(store, named):
            _remove(path)
        for path, _ in over:  # last: while it is there, so is the knowledge that something is to be removed
            path.unlink(missing_ok=True)
    except ResourceExhausted:
        raise
    except (OSError, PergamonError) as error:
        if short := exhausted(store, error):
            raise short from None
        # A copy that cannot be locked or read, so that its readers' files are not known; or files are missing.
        return held
    finally:
        for _, descriptor in over:
            os.close(descriptor)
    return held


def is_held(path: Path) -> bool:
    """Whether a reader holds the generation whose manifest's copy this is."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def kept_copies(store: Path) -> list[tuple[Manifest, bytes]]:
    """The copies of manifests that lie in the store and can be read, with their bytes; ascending."""
    found = []
    for path in sorted((store / GENERATIONS_FOLDER).glob("*.json")):
        with suppress(OSError, PergamonError):
            data = path.read_bytes()
            found.append((decode_manifest(path, data), data))
    return found


def kept_generations(store: Path) -> list[Manifest]:
    """Generations whose manifests lie in the store, readable; ascending."""
    return [manifest for manifest, _ in kept_copies(store)]


def check_there(store: Path, manifest: Manifest) -> None:
    """Raise DataLoss unless every file that a search of the generation needs is in the store, with its size."""
    for record in manifest.searched_files():
        check_size(store, record)


def _unnamed(store: Path, named: set[str]) -> list[Path]:
    """What writers made that no generation names."""
    segments = {path.split("/")[1] for path in named if path.startswith(f"{SEGMENTS_FOLDER}/")}
    found = [folder for folder in _entries(store / SEGMENTS_FOLDER) if folder.name not in segments]
    found += [path for path in _entries(store / DELETIONS_FOLDER) if f"{DELETIONS_FOLDER}/{path.name}" not in named]
    kept = {*named, MANIFEST_NAME}
    found += [path for path in _entries(store) if path.name not in kept and OWN_FILE.fullmatch(path.name)]
    return [*found, store / WORK_FOLDER]  # of a build that was killed once it had published


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:  # it is left for the next writer
        if short := exhausted(path, error):
            raise short from None
