"""The files of a remote folder, or of a pattern, that a source reads, in the order of their names."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from datastore.errors import InvalidArgument, NotFound
from datastore.sources.folders import BEIR_CORPORA
from datastore.sources.found import Piece
from datastore.sources.places import file_system
from datastore.sources.registry import EXTENSIONS, source_for
from datastore.sources.rejects import without_query
from datastore.sources.remote_errors import told

_PATTERN = frozenset("*?[")


def resolve_url(url: str) -> list[Piece]:
    """The files that a URL names, whole: itself, all of a folder, or those that match a pattern (`*`, `?`, `[]`, `**`).

    Files of a folder are named relative to it, as those of local ones are; those of a pattern, relative to the folder
    before its first wildcard.

    Raises:
        NotFound: nothing is there.
        InvalidArgument: it cannot be listed, or holds no file that a source reads.
        Unavailable: its service cannot be reached, or fails.
        FailedPrecondition: its scheme needs a package that is not installed.
    """
    system, path = file_system(url)
    is_pattern = not _PATTERN.isdisjoint(path) and url.partition("://")[0] not in ("http", "https")
    name = PurePosixPath(path.partition("?")[0]).name
    reader = source_for(name)
    try:
        if is_pattern:
            listing = system.glob(path, detail=True)
            base = path[: min(path.find(mark) for mark in _PATTERN if mark in path)].rpartition("/")[0]
        elif reader and (details := system.info(path)).get("type") == "file":
            return [Piece(reader, url, name, name, size=int(details.get("size") or 0))]
        else:
            listing = system.find(path, detail=True)
            base = path.rstrip("/")
        if not listing:  # going through folders takes one that cannot be listed for an empty one: this one says why
            system.ls(base)
    except Exception as error:  # each file system has errors of its own
        if (problem := told(url, error)) is not None:
            raise problem from error
        if isinstance(error, FileNotFoundError):
            raise _nothing(url) from error
        raise InvalidArgument(
            f"{url!r} cannot be read: {error or type(error).__name__}",
            mend="check the URL, the network, and the credentials in the environment",
            field="input",
        ) from error
    if not listing:
        raise _nothing(url)
    pieces = [_piece(details, base, url) for details in _chosen(listing, base)]
    if not pieces:
        raise InvalidArgument(
            f"{url!r} holds no file ending in {', '.join(EXTENSIONS)}",
            mend="name a folder with such files",
            field="input",
        )
    return pieces


def _nothing(url: str) -> NotFound:
    return NotFound(
        f"there is nothing at {without_query(url)!r}", mend="check the URL, and who may read it", field="input"
    )


def _chosen(listing: dict[str, Any], base: str) -> list[dict[str, Any]]:
    """The files that sources read, in the order that a local folder would have; of a BEIR folder its corpus alone."""
    files = {name: details for name, details in listing.items() if details.get("type") == "file"}
    corpora: dict[PurePosixPath, str] = {}
    for corpus in reversed(BEIR_CORPORA):
        corpora |= {PurePosixPath(name).parent: name for name in files if PurePosixPath(name).name == corpus}
    chosen = []
    for name in sorted(files, key=lambda name: _relative(name, base).split("/")):
        corpus_of = next((corpora[parent] for parent in PurePosixPath(name).parents if parent in corpora), name)
        if corpus_of == name and source_for(PurePosixPath(name).name):
            chosen.append(files[name])
    return chosen


def _piece(details: dict[str, Any], base: str, url: str) -> Piece:
    name = str(details["name"])
    file_name = PurePosixPath(name).name
    source = PurePosixPath(name).parent.name if file_name in BEIR_CORPORA else file_name
    scheme = url.partition("://")[0]
    location = name if "://" in name else f"{scheme}://{name.lstrip('/')}"
    return Piece(
        source_for(file_name) or "", location, _relative(name, base), source, size=int(details.get("size") or 0)
    )


def _relative(name: str, base: str) -> str:
    return name.lstrip("/").removeprefix(base.lstrip("/")).lstrip("/")
