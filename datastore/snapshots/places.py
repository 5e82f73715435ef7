"""Where a snapshot lies: a folder, linked to where that can be, or whatever fsspec reaches."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from datastore.errors import DataLoss, Unavailable
from datastore.sources.places import file_system, has_folders
from datastore.sources.remote_errors import told
from datastore.store.checksums import FileRecord, check_file, hash_file, hash_stream, is_whole
from datastore.store.durable import fsync_path, replace_file

_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES)
_COPIED_BYTES = 1 << 20


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
            listed: a manifest there says so: then its size may be all that is looked at.
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
    """A folder that fsspec reaches, as `s3://bucket/path`.

    Args:
        check: read back what was sent, and what was there before, and compare checksums; else sizes alone.
    """

    def __init__(self, url: str, *, check: bool = False) -> None:
        self._url = url.rstrip("/")
        self._check = check
        self._has_folders = has_folders(self._url)
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
                return self._is_there(record)
            except FileNotFoundError:
                return False

    def take(self, store: Path, record: FileRecord) -> bool:
        check_file(store, record)
        target = self._at(record.path)
        with _remote_errors(self._url):
            self._make_folder(target)
            with (store / record.path).open("rb") as own, self._files.open(target, "wb") as theirs:
                shutil.copyfileobj(own, theirs, _COPIED_BYTES)
            self._files.invalidate_cache()
            if not self._is_there(record):
                raise DataLoss(
                    f"{self._url}/{record.path} is not what was sent: "
                    f"wanted {record.bytes} bytes{f' with the checksum {record.xxh3_128}' if self._check else ''}",
                    mend="check the service, then run this again",
                )
        return False

    def _is_there(self, record: FileRecord) -> bool:
        """Whether the object has the file's size, and, where that is asked for, its bytes. Raises FileNotFoundError."""
        if int(self._files.size(self._at(record.path))) != record.bytes:
            return False
        if not self._check:
            return True
        with self._files.open(self._at(record.path), "rb") as theirs:
            return hash_stream(theirs) == record.xxh3_128

    def _make_folder(self, target: str) -> None:
        if self._has_folders:
            self._files.makedirs(target.rpartition("/")[0], exist_ok=True)

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
            self._make_folder(self._at(path))
            with self._files.open(self._at(path), "wb") as theirs:
                theirs.write(data)

    def remove(self, path: str) -> None:
        with _remote_errors(self._url):
            try:
                self._files.rm_file(self._at(path))
            except FileNotFoundError:
                return
            except OSError:  # Arrow then makes an empty object for the folder, which some services do not take
                self._files.invalidate_cache()
                if self._files.exists(self._at(path)):
                    raise


@contextmanager
def _remote_errors(url: str) -> Iterator[None]:
    """Turn what a service's client raises into ours."""
    try:
        yield
    except (DataLoss, FileNotFoundError):
        raise
    except Exception as error:  # each file system has errors of its own
        problem = told(url, error, "target")
        if problem is None and not isinstance(error, OSError):
            raise
        raise problem or Unavailable(
            f"{url} cannot be reached: {error}", mend="check the service and the network"
        ) from error


def open_place(target: str, *, check: bool = False) -> Place:
    """A path, `file://…`, or any other URL of fsspec's. Folders are always checked by what they hold."""
    scheme, separator, rest = target.partition("://")
    if not separator:
        return Folder(Path(target))
    return Folder(Path(rest)) if scheme == "file" else Remote(target, check=check)
