"""Where a snapshot lies: a folder, linked to where that can be, or whatever fsspec reaches."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from datastore.errors import DataLoss, InvalidArgument, ResourceExhausted, Unavailable
from datastore.sources.places import file_system
from datastore.store.checksums import FileRecord, check_file, hash_file, is_whole
from datastore.store.durable import fsync_path, replace_file

_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Place(Protocol):
    """Files by their paths inside a store."""

    def names(self) -> set[str]:
        """Everything at the place's top."""
        ...

    def read(self, path: str) -> bytes | None:
        """A small file's bytes; None where there is none."""
        ...

    def has(self, record: FileRecord, *, listed: bool) -> bool:
        """Whether the file is there, whole.

        Args:
            listed: a manifest there says so: then only its size is looked at.
        """
        ...

    def take(self, store: Path, record: FileRecord) -> bool:
        """Put a file of a store here; True where it was linked. Raises DataLoss unless it is what was recorded."""
        ...

    def give(self, store: Path, record: FileRecord) -> None:
        """Put a file into a store, so that it is there whole or not at all; DataLoss unless it is what was recorded."""
        ...

    def publish(self, path: str, data: bytes) -> None:
        """Put a small file, atomically, after all that was put before."""
        ...

    def remove(self, path: str) -> None: ...


class Folder:
    """A folder of this machine. Files are linked to, which costs no space, where both lie on one file system."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def lies_in(self, store: Path) -> bool:
        return self._folder.resolve().is_relative_to(store.resolve())

    def names(self) -> set[str]:
        return {path.name for path in self._folder.iterdir()} if self._folder.is_dir() else set()

    def read(self, path: str) -> bytes | None:
        try:
            return (self._folder / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def has(self, record: FileRecord, *, listed: bool) -> bool:
        return is_whole(self._folder, record)

    def take(self, store: Path, record: FileRecord) -> bool:
        check_file(store, record)
        return _link_or_copy(store / record.path, self._folder / record.path, record)

    def give(self, store: Path, record: FileRecord) -> None:
        check_file(self._folder, record)
        _link_or_copy(self._folder / record.path, store / record.path, record)

    def publish(self, path: str, data: bytes) -> None:
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_file(target, data)
        fsync_path(self._folder)

    def remove(self, path: str) -> None:
        target = self._folder / path
        target.unlink(missing_ok=True)
        for parent in target.relative_to(self._folder).parents[:-1]:
            try:
                (self._folder / parent).rmdir()
            except OSError:  # not empty
                return


def _link_or_copy(source: Path, target: Path, record: FileRecord) -> bool:
    """Whether it could be linked. The target is there whole, synced, or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
        linked = True
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(source, temporary)
        _check_copy(temporary, record)
        linked = False
    fsync_path(temporary)
    temporary.replace(target)
    fsync_path(target.parent)
    return linked


def _check_copy(path: Path, record: FileRecord) -> None:
    seen = hash_file(path)
    if seen != record.xxh3_128:
        path.unlink()
        raise DataLoss(
            f"the copy {path} has the checksum {seen}, wanted {record.xxh3_128}",
            mend="check the devices and the network, then run this again",
        )


class Remote:
    """A folder that fsspec reaches, as `s3://bucket/path`; an object is put whole or not at all."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._files: Any
        self._files, self._root = file_system(self._url)

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    def names(self) -> set[str]:
        with _remote_errors(self._url):
            try:
                found = self._files.ls(self._root, detail=False)
            except FileNotFoundError:
                return set()
            return {str(name).rstrip("/").rpartition("/")[2] for name in found}

    def read(self, path: str) -> bytes | None:
        with _remote_errors(self._url):
            try:
                return bytes(self._files.cat_file(self._at(path)))
            except FileNotFoundError:
                return None

    def has(self, record: FileRecord, *, listed: bool) -> bool:
        if not listed:  # what an interrupted snapshot left would have to be read back to be trusted
            return False
        with _remote_errors(self._url):
            try:
                return int(self._files.size(self._at(record.path))) == record.bytes
            except FileNotFoundError:
                return False

    def take(self, store: Path, record: FileRecord) -> bool:
        check_file(store, record)
        target = self._at(record.path)
        with _remote_errors(self._url):
            self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(store / record.path), target)
            self._files.invalidate_cache()
            size = int(self._files.size(target))
        if size != record.bytes:
            raise DataLoss(
                f"{self._url}/{record.path} has {size} bytes after it was put; wanted {record.bytes}",
                mend="check the service, then run this again",
            )
        return False

    def give(self, store: Path, record: FileRecord) -> None:
        target = store / record.path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(target.name + ".tmp")
        with _remote_errors(self._url):
            try:
                self._files.get_file(self._at(record.path), str(temporary))
            except FileNotFoundError:
                raise DataLoss(
                    f"{self._url}/{record.path} is missing; the snapshot's manifest lists it",
                    mend="restore another snapshot",
                ) from None
        _check_copy(temporary, record)
        fsync_path(temporary)
        temporary.replace(target)
        fsync_path(target.parent)

    def publish(self, path: str, data: bytes) -> None:
        with _remote_errors(self._url):
            self._files.makedirs(self._at(path).rpartition("/")[0], exist_ok=True)
            self._files.pipe_file(self._at(path), data)

    def remove(self, path: str) -> None:
        with _remote_errors(self._url):
            try:
                self._files.rm_file(self._at(path))
            except FileNotFoundError:
                return


@contextmanager
def _remote_errors(url: str) -> Iterator[None]:
    """Turn what a service's client raises into ours."""
    try:
        yield
    except (DataLoss, FileNotFoundError):
        raise
    except PermissionError as error:
        raise InvalidArgument(
            f"{url} may not be accessed: {error}", mend="check the credentials in the environment", field="target"
        ) from None
    except OSError as error:
        if error.errno in _FULL:
            raise ResourceExhausted(f"no space left at {url}: {error}", mend="free some space, run it again") from None
        raise Unavailable(f"{url} cannot be reached: {error}", mend="check the service and the network") from None


def open_place(target: str) -> Place:
    """A path, `file://…`, or any other URL of fsspec's."""
    scheme, separator, rest = target.partition("://")
    if not separator:
        return Folder(Path(target))
    return Folder(Path(rest)) if scheme == "file" else Remote(target)
