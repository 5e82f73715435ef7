"""What an input holds and a datastore cannot: written down line by line, counted, and never fatal by itself."""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import BinaryIO, Literal, get_args

from datastore.errors import InvalidArgument

InputReason = Literal[
    "not UTF-8",
    "not JSON",
    "not an object",
    "wrong type",
    "no text",
    "lone surrogate",
    "bad id",
    "duplicate id",
    "too large",
    "too slow",
    "damaged archive",
    "damaged file",
    "damaged page",
    "damaged record",
    "encrypted",
    "not PDF",
    "not Python",
]
"""Why no document can be made of something."""

CleaningReason = Literal[
    "word count",
    "word length",
    "symbols",
    "bullet lines",
    "ellipsis lines",
    "alphabetic words",
    "stop words",
    "repeated lines",
    "repeated n-grams",
    "unpunctuated lines",
    "short lines",
    "language",
    "classifier",
    "contaminated",
    "exact duplicate",
    "near duplicate",
]
"""Why cleaning leaves a document out, where it is asked to (`datastore/cleaning/`)."""

Reason = InputReason | CleaningReason
CLEANING_REASONS = frozenset(get_args(CleaningReason))

EXCERPT_CHARACTERS = 200


class RefusedError(Exception):
    """One line or file that no document can be made of. Sources catch it and go on; it never reaches a caller."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason: Reason = reason
        self.detail = detail


def not_utf8(line: bytes, position: int) -> RefusedError:
    """Of a line with a byte, counted from 0, that UTF-8 has not there."""
    utf16 = position == 0 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    hint = ", with which UTF-16 begins" if utf16 else ""
    return RefusedError("not UTF-8", f"byte {position + 1} of the line is 0x{line[position]:02x}{hint}")


def mend_input(by_reason: Mapping[str, int], otherwise: str) -> str:
    """What to do about an input that was refused for these reasons."""
    if "not UTF-8" in by_reason:
        return "convert the input to UTF-8, as with: iconv -f UTF-16 -t UTF-8 (or from the encoding that it has)"
    return otherwise


class Rejects:
    """A JSON Lines file of what was refused, and the counts.

    One object a reject: `file`, `line` (from 1; 0 where the input has no lines), `reason`, `detail`, `excerpt` (at most
    200 characters). The file is made, replacing one of that name, at the first reject: a clean input leaves none.
    Close it, or use it as a context manager, to have everything on disk.

    Raises:
        InvalidArgument: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._counts: Counter[str] = Counter()
        self._file: BinaryIO | None = None

    @property
    def total(self) -> int:
        return self._counts.total()

    @property
    def by_reason(self) -> Mapping[str, int]:
        """Reason -> number of rejects."""
        return MappingProxyType(self._counts)

    def add(self, file: str, line: int, refused: RefusedError, excerpt: str | bytes = "") -> None:
        if isinstance(excerpt, bytes):
            excerpt = excerpt[: 4 * EXCERPT_CHARACTERS].decode(errors="backslashreplace")
        record = {
            "file": _printable(without_query(file)),
            "line": line,
            "reason": refused.reason,
            "detail": _printable(refused.detail),
            "excerpt": _printable(excerpt[:EXCERPT_CHARACTERS])[:EXCERPT_CHARACTERS],
        }
        self._write(json.dumps(record, ensure_ascii=False).encode() + b"\n", refused.reason)

    def take(self, line: bytes) -> None:
        """Add a line, with its line feed, that another `Rejects` has written."""
        self._write(line, json.loads(line)["reason"])

    def _write(self, line: bytes, reason: str) -> None:
        try:
            if self._file is None:
                self._file = self.path.open("ab" if self._counts else "wb")
            self._file.write(line)
        except OSError as error:
            raise self._unwritable(error) from error
        self._counts[reason] += 1

    def close(self) -> None:
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            file.close()
        except OSError as error:
            raise self._unwritable(error) from error

    def __enter__(self) -> Rejects:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _unwritable(self, error: OSError) -> InvalidArgument:
        return InvalidArgument(
            f"the rejects file {self.path} cannot be written: {error.strerror}",
            mend="choose a folder that can be written and has space left",
        )


def without_query(file: str) -> str:
    """A URL without what follows a `?`: that may be a signature, which is as good as a password."""
    return file.partition("?")[0] if "://" in file else file


def _printable(text: str) -> str:
    """`text` with lone surrogates, which UTF-8 cannot hold, written as escapes."""
    return text.encode(errors="backslashreplace").decode()
