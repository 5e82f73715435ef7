"""Lists of document ids, as a file has them: one a line, or JSON Lines with the id where documents have it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from datastore.errors import InvalidArgument, NotFound

STANDARD_INPUT = "-"
_FIELDS = ("document_id", "_id", "id")


def read_document_ids(file: str) -> Iterator[str]:
    """The ids in a file, or on standard input where it is `-`; blank lines are passed over.

    A line that is a JSON object with one of the fields `document_id`, `_id` and `id` names that id, and one that is a
    JSON string is it; any other line is an id itself, spaces included.

    Raises:
        NotFound: there is no such file.
        InvalidArgument: it cannot be read, or is not UTF-8.
    """
    try:
        if file == STANDARD_INPUT:
            yield from _ids(sys.stdin.buffer, "standard input")
        else:
            with Path(file).open("rb") as lines:
                yield from _ids(lines, file)
    except FileNotFoundError:
        raise NotFound(f"there is no file {file!r}", mend="check the path", field="document_ids") from None
    except OSError as error:
        raise InvalidArgument(
            f"{file!r} cannot be read: {error.strerror}", mend="name a file with one id a line", field="document_ids"
        ) from None


def _ids(lines: Iterable[bytes], name: str) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise InvalidArgument(
                f"line {number} of {name} is not UTF-8: {error.reason}",
                mend="write ids in UTF-8, one a line",
                field="document_ids",
            ) from None
        if text.strip():
            yield _named(text)


def _named(line: str) -> str:
    if not line.lstrip().startswith(("{", '"')):
        return line
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return line
    if isinstance(record, str):
        return record
    named = next((record[field] for field in _FIELDS if record.get(field) is not None), None)
    # Integers are taken as documents take them.
    return str(named) if isinstance(named, str | int) and not isinstance(named, bool) else line
