"""Rows of tables to documents: Parquet and Arrow files, and Hugging Face datasets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time
from typing import Any

from datastore.config import InputConfig
from datastore.errors import InvalidArgument
from datastore.sources.found import Found, Piece
from datastore.sources.records import document_of
from datastore.sources.rejects import RefusedError, Rejects

ROWS_AT_ONCE = 256


def read_batches(
    batches: Iterable[Any], first: int, piece: Piece, rejects: Rejects, config: InputConfig
) -> Iterator[Found]:
    """The documents of Arrow record batches, whose rows are numbered from `first`. A document without an id gets
    `<name>:<row number>`."""
    for batch in batches:
        for start in range(0, batch.num_rows, ROWS_AT_ONCE):
            part = batch.slice(start, ROWS_AT_ONCE)
            yield from read_rows(_rows(part), first, piece, rejects, config)
            first += part.num_rows


def _rows(batch: Any) -> Iterator[Mapping[str, Any] | RefusedError]:
    try:
        yield from batch.to_pylist()
    except Exception:  # a string that is not UTF-8, a date beyond Python's: one cell spoils the batch
        for number in range(batch.num_rows):
            try:
                (row,) = batch.slice(number, 1).to_pylist()
            except UnicodeDecodeError as error:
                yield RefusedError("not UTF-8", f"{error.reason} at byte {error.start + 1} of a string")
            except Exception as error:
                yield RefusedError("wrong type", f"a value that Python cannot hold: {error}")
            else:
                yield row


def read_rows(
    rows: Iterable[Mapping[str, Any] | RefusedError], first: int, piece: Piece, rejects: Rejects, config: InputConfig
) -> Iterator[Found]:
    for number, row in enumerate(rows, first):
        try:
            if isinstance(row, RefusedError):
                raise row
            record = {name: plain(value) for name, value in row.items()}
            text = row.get(config.text_field)
            if isinstance(text, bytes):  # columns of strings that were not declared to be
                record[config.text_field] = _decoded(text)
            document = document_of(record, f"{piece.name}:{number}", piece.source, config)
            attributes = sum(len(value) for value in document.attributes.values() if isinstance(value, str))
            size = len(document.text.encode(errors="replace")) + attributes
            if size > config.max_document_bytes:
                raise RefusedError("too large", f"{size} bytes; at most {config.max_document_bytes} are taken")
        except RefusedError as refused:
            rejects.add(piece.location, number, refused, "" if isinstance(row, RefusedError) else repr(row)[:200])
            continue
        yield Found(document, piece.location, number)


def require_column(names: Iterable[str], piece: Piece, config: InputConfig) -> None:
    """Raise InvalidArgument, which says what there is, where a table has no column of text."""
    names = list(names)
    if config.text_field not in names:
        raise InvalidArgument(
            f"{piece.location} has no column {config.text_field!r}; it has {', '.join(names[:20]) or 'none'}",
            mend="name the column of its text: input.text_field in the config",
            field="input.text_field",
        )


def plain(value: Any) -> Any:
    """A cell as JSON has it: dates in ISO 8601, other numbers and identifiers as text; None of NaN and of bytes."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(inner) for inner in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return None  # a picture, say
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value)


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise RefusedError("not UTF-8", f"byte {error.start + 1} is 0x{text[error.start]:02x}") from error
