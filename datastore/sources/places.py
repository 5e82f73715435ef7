"""Where inputs lie, and how their bytes are read: paths, opened directly, and URLs, by what fsspec knows.

`s3://`, `gs://` and `abfs://` are read by Arrow's own clients, which are here anyway; other schemes by fsspec's file
systems, some of which need a package more. Credentials come from the environment alone (for S3: `AWS_ACCESS_KEY_ID`,
profiles, roles; `AWS_ENDPOINT_URL` for S3-compatible services), never from a URL.
"""

from __future__ import annotations

import errno
import io
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from datastore.errors import DataLoss, FailedPrecondition, InvalidArgument
from datastore.sources.rejects import EXCERPT_CHARACTERS, RefusedError, Rejects, without_query
from datastore.sources.remote_errors import told

_BY_ARROW = {"s3": "s3", "gs": "gs", "gcs": "gs", "abfs": "abfs", "abfss": "abfss"}
_GOOGLE_RETRIES = "?retry_limit_seconds=30"
"""By default its client goes on for a quarter of an hour."""
_REMOTE_BUFFER_BYTES = 1 << 20


def is_url(location: str) -> bool:
    scheme, separator, _ = location.partition("://")
    return bool(separator) and scheme.replace("+", "").isalnum()


def local_path(location: str) -> str | None:
    """The path of a location on this machine, also where it is written as `file://`; None of another."""
    if not is_url(location):
        return location
    return unquote(location.removeprefix("file://")) if location.startswith("file://") else None


def file_system(location: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    Raises:
        InvalidArgument: no such scheme, or credentials in the URL.
        FailedPrecondition: the scheme needs a package that is not installed.
    """
    scheme = location.partition("://")[0].lower()
    parts = urlsplit(location)
    if "@" in parts.netloc:
        raise InvalidArgument(
            f"a {scheme}:// input has a user or password in it; they would end up in logs",
            mend="leave them out, and set them in the environment, as the service's own tools take them",
            field="input",
        )
    try:
        if scheme in _BY_ARROW:
            limit = _GOOGLE_RETRIES if _BY_ARROW[scheme] == "gs" else ""
            return _arrow_file_system(f"{_BY_ARROW[scheme]}://{parts.netloc}{limit}"), location.partition("://")[2]
        import fsspec

        system, path = fsspec.core.url_to_fs(location)
    except ImportError as error:
        raise FailedPrecondition(
            f"{scheme}:// cannot be read: {error}", mend="install that package beside pergamon", field="input"
        ) from error
    except Exception as error:  # each file system has errors of its own
        raise InvalidArgument(
            f"{location!r} cannot be read: {error}",
            mend="check the scheme, and the environment's settings for it",
            field="input",
        ) from error
    return system, path


@cache
def _arrow_file_system(bucket: str) -> Any:
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow.fs import FileSystem

    system, _ = FileSystem.from_uri(bucket)
    return ArrowFSWrapper(system)


def has_folders(location: str) -> bool:
    """Whether a URL's folders are made before their files: those of object stores are but parts of names, and a folder
    made there is an empty object that somebody has to remove."""
    return location.partition("://")[0].lower() not in _BY_ARROW


class _Guarded(io.RawIOBase):
    """A remote file, whose clients' many errors become OSError, or ours where a service refuses or is away."""

    def __init__(self, stream: Any, location: str) -> None:
        self._stream = stream
        self._location = location

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._stream.seekable())

    def readinto(self, buffer: Any) -> int:
        try:
            content = self._stream.read(len(buffer))
        except Exception as error:
            raise _failure(self._location, error) from error
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return int(self._stream.seek(offset, whence))
        except Exception as error:
            raise _failure(self._location, error) from error

    def tell(self) -> int:
        return int(self._stream.tell())

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def _failure(location: str, error: Exception) -> Exception:
    return told(location, error) or OSError(errno.EIO, f"{type(error).__name__}: {error}")


def open_bytes(location: str, start: int = 0) -> BinaryIO:
    """The bytes of a file from `start` on. Raises OSError; Unavailable or InvalidArgument where a service is away, or
    wants other credentials."""
    path = local_path(location)
    stream: BinaryIO
    if path is not None:
        stream = Path(path).open("rb")  # noqa: SIM115  (the caller closes it)
    else:
        system, remote = file_system(location)
        try:
            stream = io.BufferedReader(_Guarded(system.open(remote, "rb"), location), _REMOTE_BUFFER_BYTES)
        except Exception as error:
            raise _failure(location, error) from error
    if start:
        stream.seek(start)
    return stream


def size_of(location: str) -> int | None:
    """Bytes of a file; None where its server does not say. Raises what `open_bytes` does."""
    path = local_path(location)
    if path is not None:
        return Path(path).stat().st_size
    system, remote = file_system(location)
    try:
        size = system.info(remote).get("size")
    except Exception as error:
        raise _failure(location, error) from error
    return None if size is None else int(size)


def read_file(location: str, rejects: Rejects, max_bytes: int) -> bytes | None:
    """A file's content, or None where it is larger than `max_bytes`: then it is rejected, and its beginning read alone.

    Raises:
        DataLoss: it cannot be read.
        Unavailable, InvalidArgument: its service is away, or wants other credentials.
    """
    try:
        size = size_of(location) or 0
        with open_bytes(location) as stream:
            content = stream.read(max_bytes + 1)
    except OSError as error:
        raise unreadable(location, error) from error
    size = max(size, len(content))
    if size <= max_bytes:
        return content
    refused = RefusedError("too large", f"{size} bytes; at most {max_bytes} are taken")
    rejects.add(location, 1, refused, content[: 4 * EXCERPT_CHARACTERS])
    return None


def unreadable(location: str, error: OSError, where: str = "") -> DataLoss:
    return DataLoss(
        f"{without_query(location)} cannot be read{where}: {error.strerror or error}",
        mend="make the file readable and run again",
    )
