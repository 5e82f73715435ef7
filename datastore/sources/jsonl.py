"""JSON Lines: one document a line, in the shapes that corpora have (BEIR's among them)."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datastore.documents import AttributeValue, Document
from datastore.sources.found import Found
from datastore.sources.lines import read_lines
from datastore.sources.rejects import RefusedError, Rejects

ID_FIELDS = ("_id", "id")
ATTRIBUTE_FIELDS = ("metadata", "attributes")
_INT64 = range(-(1 << 63), 1 << 63)


@dataclass(frozen=True, slots=True)
class JsonLines:
    """A file of JSON objects, one a line, plain or compressed.

    `text` is required (it may be empty where there is a `title`). The id is the first of `_id` and `id` that is there,
    a string or an integer; without one it is `<name>:<line number>`. `title` and `source` are optional strings. The
    entries of the objects `metadata` and `attributes`, and then every other field, become attributes: strings, booleans
    and numbers as they are; lists, objects and integers beyond 64 bits as their JSON text; null, NaN and infinity not
    at all.
    """

    path: Path
    name: str
    """What generated ids begin with."""
    source: str
    """The source of documents that name none."""

    def read(self, rejects: Rejects, max_document_bytes: int) -> Iterator[Found]:
        file = str(self.path)
        for line in read_lines(self.path, max_document_bytes):
            content = line.content.removeprefix(codecs.BOM_UTF8) if line.number == 1 else line.content
            try:
                if line.refused is not None:
                    raise line.refused
                if not content.strip():
                    continue
                document = self._document(parse_object(content), line.number)
            except RefusedError as refused:
                rejects.add(file, line.number, refused, content)
                continue
            yield Found(document, file, line.number)

    def _document(self, record: dict[str, Any], line_number: int) -> Document:
        if record.get("text") is None:
            raise RefusedError("no text", "the field 'text' is missing; it must be a string")
        id_field = next((name for name in ID_FIELDS if record.get(name) is not None), None)
        document_id = record[id_field] if id_field else f"{self.name}:{line_number}"
        if not isinstance(document_id, str | int) or isinstance(document_id, bool):
            raise RefusedError(
                "wrong type", f"the field {id_field!r} is {_kind(document_id)}; wanted a string or an integer"
            )
        text, title, source = (_string(record, name) for name in ("text", "title", "source"))

        attributes: dict[str, AttributeValue] = {}
        used = {id_field, "text", "title", "source"}
        for name in ATTRIBUTE_FIELDS:
            if isinstance(record.get(name), dict):
                used.add(name)
                _put(attributes, record[name].items())
        _put(attributes, ((name, value) for name, value in record.items() if name not in used))
        return Document(str(document_id), text, title, source or self.source, attributes)


def parse_object(content: bytes) -> dict[str, Any]:
    """The JSON object in `content`. Raises RefusedError."""
    try:
        record = _DECODER.decode(content.decode())
    except UnicodeDecodeError as error:
        raise RefusedError(
            "not UTF-8", f"byte {error.start + 1} of the line is 0x{content[error.start]:02x}"
        ) from error
    except json.JSONDecodeError as error:
        raise RefusedError("not JSON", f"{error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise RefusedError("not JSON", "nested too deeply") from error
    except ValueError as error:
        raise RefusedError("not JSON", str(error)) from error  # an integer of thousands of digits
    if not isinstance(record, dict):
        raise RefusedError("not an object", f"the line is {_kind(record)}; wanted an object")
    return record


def _finite(literal: str) -> float | None:
    value = float(literal)
    return value if math.isfinite(value) else None


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=lambda _: None)


def _string(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RefusedError("wrong type", f"the field {name!r} is {_kind(value)}; wanted a string")
    return value


def _put(attributes: dict[str, AttributeValue], fields: Any) -> None:
    for name, value in fields:
        if value is None:
            continue
        if isinstance(value, list | dict) or (isinstance(value, int) and value not in _INT64):
            try:
                attributes[name] = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            except RecursionError as error:
                raise RefusedError("not JSON", f"the field {name!r} is nested too deeply") from error
        else:
            attributes[name] = value


def _kind(value: object) -> str:
    if value is None:
        return "null"
    kinds = {
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
    }
    return kinds[type(value)]
