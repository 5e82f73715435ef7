"""The files of a folder that a source reads, in the order of their names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from datastore.errors import InvalidArgument
from datastore.sources.found import Piece
from datastore.sources.registry import EXTENSIONS, source_for

BEIR_CORPORA = ("corpus.jsonl", "corpus.jsonl.gz", "corpus.jsonl.zst")


def walk(folder: Path) -> list[Piece]:
    """All files in and below `folder` that a source reads, whole; named by their paths relative to it, with slashes.

    Raises:
        InvalidArgument: there is none, or one may not be read.
    """
    pieces = [_piece(folder, path, reader) for path, reader in _walk(folder)]
    if not pieces:
        raise InvalidArgument(
            f"the folder {str(folder)!r} holds no file ending in {', '.join(EXTENSIONS)}",
            mend="name a folder with such files; symbolic links in it are not followed",
            field="input",
        )
    return pieces


def check_readable(path: Path) -> None:
    if not os.access(path, os.R_OK):
        raise InvalidArgument(f"{str(path)!r} may not be read", mend="change its permissions", field="input")


def _piece(folder: Path, path: Path, reader: str) -> Piece:
    check_readable(path)
    source = path.parent.resolve().name if path.name in BEIR_CORPORA else path.name
    return Piece(reader, str(path), path.relative_to(folder).as_posix(), source, size=path.stat().st_size)


def _walk(folder: Path) -> Iterator[tuple[Path, str]]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not entry.is_symlink())
    except OSError as error:
        raise InvalidArgument(
            f"the folder {str(folder)!r} cannot be read: {error.strerror}",
            mend="check that it is still there, and its permissions",
            field="input",
        ) from error
    corpora = [name for name in BEIR_CORPORA if name in names and (folder / name).is_file()]
    for name in corpora[:1] or names:
        path = folder / name
        if path.is_dir():
            yield from _walk(path)
        elif (reader := source_for(name)) and path.is_file():
            yield path, reader
