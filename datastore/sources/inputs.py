"""From the values of `--input` to pieces, and to one stream of documents.

An input is one of

- a file: JSON Lines, plain or compressed (see `jsonl`), Parquet and Arrow (`parquet`), plain text and Markdown
  (`text_file`), HTML (`html`), PDF (`pdf`), WARC (`warc`), by its extension (`registry`);
- a folder: every such file in it and below it, in the order of the names, folders and files together. Symbolic links in
  a folder are not followed. A folder that holds `corpus.jsonl`, `corpus.jsonl.gz` or `corpus.jsonl.zst` is a BEIR
  folder: of it that file alone is read, and not its queries and judgments;
- a URL of a file, a folder or a pattern: `s3://`, `gs://`, `https://` and what else fsspec knows (see `places`);
- `hf:NAME`, a dataset of the Hugging Face hub (see `hub`);
- `pydoc:`, the documentation of the installed Python (see `python_docs`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from datastore.config import InputConfig
from datastore.documents import Document
from datastore.errors import InvalidArgument, NotFound
from datastore.sources.admission import Admission
from datastore.sources.folders import check_readable, walk
from datastore.sources.found import Found, Piece
from datastore.sources.hub import PREFIX as HUB
from datastore.sources.hub import HubName
from datastore.sources.places import is_url, local_path
from datastore.sources.python_docs import PREFIX as PYDOC
from datastore.sources.python_docs import Selection
from datastore.sources.registry import EXTENSIONS, SOURCES, source_for
from datastore.sources.rejects import RefusedError, Rejects
from datastore.sources.remote import resolve_url

DEFAULT_PIECE_BYTES = 64 << 20
DEFAULTS = InputConfig()


def cut_inputs(inputs: Sequence[str], target_bytes: int = DEFAULT_PIECE_BYTES) -> list[Piece]:
    """All inputs in pieces of about `target_bytes`, in the order of the inputs, each checked as far as can be without
    reading its documents.

    The pieces depend on the inputs and on `target_bytes` alone, and the documents on the inputs alone: same documents,
    same order, same ids, whatever the target. Small files are not joined; `Piece.size` says what each weighs. Plain
    JSON Lines files above the target are read through, to count their lines: keep the pieces rather than cut again.

    Raises:
        NotFound: no such file, folder or module.
        InvalidArgument: no input; one that cannot be read or that no source reads; a folder without a file to read.
        DataLoss: a file became unreadable.
    """
    return [piece for whole in _files(inputs) for piece in SOURCES[whole.reader].pieces(whole, target_bytes)]


def read_piece(piece: Piece, rejects: Rejects, config: InputConfig) -> Iterator[Found]:
    """The documents of a piece and where each was found, not yet admitted (see `Admission`).

    What is read and cannot be a document goes to `rejects`. Memory is at most about 30 times `max_document_bytes` (a
    line of nothing but brackets, parsed), and a few times that for text.

    Raises:
        DataLoss: a file became unreadable, or shorter than it was when it was cut.
    """
    return SOURCES[piece.reader].read(piece, rejects, config)


Step = Callable[[Document], Document]
"""Returns what becomes of a document, or raises RefusedError."""


def open_inputs(inputs: Sequence[str], rejects: Rejects, config: InputConfig = DEFAULTS) -> Iterator[Document]:
    """The documents of all inputs, in the order of the inputs, each id once: those of `admitted_inputs`."""
    return (found.document for found in admitted_inputs(inputs, rejects, config, Admission()))


def admitted_inputs(
    inputs: Sequence[str],
    rejects: Rejects,
    config: InputConfig,
    admission: Admission,
    steps: Sequence[Step] = (),
) -> Iterator[Found]:
    """The documents of all inputs and where each was found, in the order of the inputs, each id once.

    All inputs are checked before this returns; errors are those of `cut_inputs` and `read_piece`. Memory does not grow
    with the input, but for 130 bytes a document to recognize duplicate ids (see `Admission`) and what a list of its
    files takes.

    Args:
        admission: says what is admitted.
        steps: what is done to each document before it is admitted, one after another.
    """
    return _admitted(list(_files(inputs)), rejects, config, admission, steps)


def _admitted(
    pieces: Sequence[Piece], rejects: Rejects, config: InputConfig, admission: Admission, steps: Sequence[Step]
) -> Iterator[Found]:
    for document, file, line in chain.from_iterable(read_piece(piece, rejects, config) for piece in pieces):
        try:
            for step in steps:
                document = step(document)  # noqa: PLW2901 - what is refused is shown as the steps before left it
            admission.check(document)
        except RefusedError as refused:
            rejects.add(file, line, refused, document.text or document.title)
        else:
            yield Found(document, file, line)


def _files(inputs: Sequence[str]) -> Iterator[Piece]:
    if not inputs:
        raise InvalidArgument(
            "no input was given; wanted at least one", mend="name a file, a folder or pydoc:", field="input"
        )
    return chain.from_iterable([_resolve(value) for value in inputs])


def _resolve(value: str) -> list[Piece]:
    """What one value of `--input` means: each file, whole."""
    if value.startswith(PYDOC):
        Selection.parse(value)
        return [Piece("pydoc", value, "", "pydoc")]
    if value.startswith(HUB):
        name = HubName.parse(value).name
        return [Piece("hub", value, name, name)]
    if is_url(value):
        if (local := local_path(value)) is None:
            return resolve_url(value)
        value = local
    if not value:
        raise InvalidArgument("an input is empty; wanted a path", mend="write . for this folder", field="input")
    path = Path(value)
    try:
        if path.is_dir():
            return walk(path)
        if not path.exists():
            raise NotFound(f"there is no file or folder {value!r}", mend="check the path", field="input")
        if not path.is_file():
            raise InvalidArgument(
                f"{value!r} is neither a file nor a folder: a pipe or a device has no end that is known",
                mend="write what it gives into a file",
                field="input",
            )
        reader = source_for(path.name)
        if reader is None:
            raise InvalidArgument(
                f"{value!r} cannot be read; wanted a folder, or a file ending in {', '.join(EXTENSIONS)}",
                mend="convert it to .jsonl, or give it the extension of what it is",
                field="input",
            )
        check_readable(path)
        return [Piece(reader, str(path), path.name, path.name, size=path.stat().st_size)]
    except OSError as error:
        raise InvalidArgument(
            f"{value!r} cannot be read: {error.strerror}",
            mend="check the path and its permissions",
            field="input",
        ) from error
