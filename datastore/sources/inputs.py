"""From the values of `--input` to one stream of documents.

An input is one of

- a file: `.jsonl`, `.jsonl.gz`, `.jsonl.zst` (see `jsonl`), `.txt`, `.md` (one document each, see `text_file`);
- a folder: every such file in it and below it, in the order of the names, folders and files together. Symbolic links in
  a folder are not followed. A folder that holds `corpus.jsonl`, `corpus.jsonl.gz` or `corpus.jsonl.zst` is a BEIR
  folder: of it that file alone is read, and not its queries and judgments;
- `pydoc:`, the documentation of the installed Python (see `python_docs`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datastore.documents import Document
from datastore.errors import InvalidArgument, NotFound
from datastore.sources.admission import Admission
from datastore.sources.found import Found, Source
from datastore.sources.jsonl import JsonLines
from datastore.sources.python_docs import PythonDocs
from datastore.sources.rejects import RefusedError, Rejects
from datastore.sources.text_file import TextFile

DEFAULT_MAX_DOCUMENT_BYTES = 64 << 20

FileSource = Callable[[Path, str, str], Source]
"""Makes the source of a file from its path, its name in the input and the source name of its documents."""

FILE_SOURCES: dict[str, FileSource] = {
    ".jsonl": JsonLines,
    ".jsonl.gz": JsonLines,
    ".jsonl.zst": JsonLines,
    ".md": TextFile,
    ".txt": TextFile,
}
BEIR_CORPORA = ("corpus.jsonl", "corpus.jsonl.gz", "corpus.jsonl.zst")


def open_inputs(
    inputs: Sequence[str], rejects: Rejects, *, max_document_bytes: int = DEFAULT_MAX_DOCUMENT_BYTES
) -> Iterator[Document]:
    """The documents of all inputs, in the order of the inputs, each id once.

    All inputs are checked before this returns. What is read and cannot be a document goes to `rejects`. Memory does not
    grow with the input, but for 130 bytes a document to recognize duplicate ids (see `Admission`) and the names of the
    files in one folder; it is at most about 30 times `max_document_bytes` (a line of nothing but brackets, parsed), and
    a few times that for text.

    Args:
        inputs: the values of `--input`.
        max_document_bytes: a larger line of JSON Lines or text file is rejected, without being read into memory.

    Raises:
        NotFound: no such file, folder or module.
        InvalidArgument: no input; one that cannot be read or that no source reads; a folder without a file to read.
        DataLoss: a file became unreadable while it was read.
    """
    if not inputs:
        raise InvalidArgument(
            "no input was given; wanted at least one", mend="name a file, a folder or pydoc:", field="input"
        )
    if max_document_bytes < 1:
        raise InvalidArgument(
            f"max_document_bytes is {max_document_bytes}; it must be at least 1",
            mend="pass a positive number",
            field="max_document_bytes",
        )
    sources = [resolve_input(value) for value in inputs]
    return _admitted(sources, rejects, max_document_bytes)


def resolve_input(value: str) -> Source:
    """The source that one value of `--input` means, checked as far as can be without reading its documents."""
    if value.startswith(PythonDocs.PREFIX):
        return PythonDocs.parse(value)
    if not value:
        raise InvalidArgument("an input is empty; wanted a path", mend="write . for this folder", field="input")
    path = Path(value)
    try:
        if path.is_dir():
            folder = Folder(path)
            folder.check()
            return folder
        if not path.exists():
            raise NotFound(f"there is no file or folder {value!r}", mend="check the path", field="input")
        make = _file_source(path.name)
        if make is None or not path.is_file():
            raise InvalidArgument(
                f"{value!r} cannot be read; wanted a folder, or a file ending in {', '.join(FILE_SOURCES)}",
                mend="convert it to .jsonl, or give it the extension of what it is",
                field="input",
            )
        _check_readable(path)
    except OSError as error:
        raise InvalidArgument(
            f"{value!r} cannot be read: {error.strerror}",
            mend="check the path and its permissions",
            field="input",
        ) from error
    return make(path, path.name, path.name)


def _admitted(sources: Sequence[Source], rejects: Rejects, max_document_bytes: int) -> Iterator[Document]:
    admission = Admission()
    for source in sources:
        for document, file, line in source.read(rejects, max_document_bytes):
            try:
                admission.check(document)
            except RefusedError as refused:
                rejects.add(file, line, refused, document.text or document.title)
            else:
                yield document


@dataclass(frozen=True, slots=True)
class Folder:
    """All files in and below a folder that a source reads. Their names are paths relative to it, with slashes."""

    path: Path

    def read(self, rejects: Rejects, max_document_bytes: int) -> Iterator[Found]:
        for path, make in _walk(self.path):
            source = path.parent.resolve().name if path.name in BEIR_CORPORA else path.name
            yield from make(path, path.relative_to(self.path).as_posix(), source).read(rejects, max_document_bytes)

    def check(self) -> None:
        """Raise InvalidArgument unless there is a file to read, and every such file may be read."""
        empty = True
        for path, _ in _walk(self.path):
            empty = False
            _check_readable(path)
        if empty:
            raise InvalidArgument(
                f"the folder {str(self.path)!r} holds no file ending in {', '.join(FILE_SOURCES)}",
                mend="name a folder with such files; symbolic links in it are not followed",
                field="input",
            )


def _walk(folder: Path) -> Iterator[tuple[Path, FileSource]]:
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
        elif (make := _file_source(name)) and path.is_file():
            yield path, make


def _file_source(name: str) -> FileSource | None:
    """The entry of FILE_SOURCES for a file name: that of `.jsonl.gz` for `a.b.jsonl.gz`."""
    suffixes = Path(name.lower()).suffixes
    return FILE_SOURCES.get("".join(suffixes[-2:])) or FILE_SOURCES.get("".join(suffixes[-1:]))


def _check_readable(path: Path) -> None:
    if not os.access(path, os.R_OK):
        raise InvalidArgument(f"{str(path)!r} may not be read", mend="change its permissions", field="input")
