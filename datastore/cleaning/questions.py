"""Questions of evaluation sets, read from files."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import zstandard

from datastore.errors import InvalidArgument, NotFound

_FIELDS = ("question", "query", "text", "title")
_PLAIN = (".txt",)
_MAX_LINE_BYTES = 1 << 24


class Question(NamedTuple):
    """A question, and where it stands."""

    text: str
    file: str
    line: int


def read_questions(paths: Sequence[str]) -> list[Question]:
    """The questions of all files, in their order; blank ones are left out.

    A `.txt` file has a question a line; any other is JSON Lines, maybe compressed with gzip or zstd, of objects with
    `question`, `query`, `text` or `title` (the first of them that is there), so also the `queries.jsonl` of BEIR.

    Raises:
        NotFound: there is no such file.
        InvalidArgument: a file that cannot be read as this, or holds no question.
    """
    found: list[Question] = []
    for path in paths:
        questions = list(_read(Path(path)))
        if not questions:
            raise _bad(path, "holds no question")
        found += questions
    return found


def _read(path: Path) -> Iterator[Question]:
    plain = path.name.endswith(_PLAIN)
    try:
        with path.open("rb") as raw:
            for number, line in enumerate(_lines(path.name, raw), 1):
                if text := line.strip() if plain else _field(path, number, line):
                    yield Question(text, path.name, number)
    except FileNotFoundError:
        raise NotFound(
            f"there is no file of questions {str(path)!r}", mend="check the path", field="clean.contamination.questions"
        ) from None
    except UnicodeDecodeError:
        raise _bad(path, "is not UTF-8") from None
    except (OSError, EOFError, zstandard.ZstdError) as error:
        raise _bad(path, f"cannot be read: {error}") from None


def _lines(name: str, raw: BinaryIO) -> Iterator[str]:
    """The lines of a file, without compression. A longer one than 16 MiB comes in parts."""
    file: BinaryIO = raw
    if name.endswith(".gz"):
        file = cast(BinaryIO, gzip.GzipFile(fileobj=raw))
    elif name.endswith(".zst"):
        stream = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
        file = cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, stream)))
    while line := file.readline(_MAX_LINE_BYTES):
        yield line.decode()


def _field(path: Path, number: int, line: str) -> str:
    if not line.strip():
        return ""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise _bad(path, f"has no JSON in line {number}") from None
    values = [record[name] for name in _FIELDS if name in record] if isinstance(record, dict) else []
    if not values or not isinstance(values[0], str):
        raise _bad(path, f"has no object with one of {', '.join(_FIELDS)} as a string in line {number}")
    return str(values[0]).strip()


def _bad(path: Path | str, problem: str) -> InvalidArgument:
    return InvalidArgument(
        f"the file of questions {str(path)!r} {problem}",
        mend="name JSON Lines with a question or text field, or a .txt file of a question a line",
        field="clean.contamination.questions",
    )
