"""One record of somebody's passages, of JSON Lines or Parquet, to one of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datastore.documents import AttributeValue, Passage
from datastore.errors import InvalidArgument
from datastore.sources.admission import check_characters
from datastore.sources.records import ATTRIBUTE_FIELDS, put_attributes
from datastore.sources.rejects import RefusedError
from datastore.sources.tables import plain

_IDS = ("_id", "id", "document_id", "passage_id")
_PLACE = ("chunk_index", "start", "end")
_TEXTS = ("text", "contents", "title", "source")
_OWN = frozenset({*_IDS, *_PLACE, *_TEXTS, *ATTRIBUTE_FIELDS, "vector"})


def name_of(record: Mapping[str, Any]) -> str | None:
    """The id that a record brings."""
    return next((str(record[key]) for key in _IDS if record.get(key) is not None), None)


def passage_of(record: Mapping[str, Any], file: Path, number: int, prefix: str = "") -> Passage:
    """The passage in a record.

    Args:
        number: its id, where it brings none.
        prefix: put before its id.

    Raises:
        InvalidArgument: it has no text, or a value that no passage can have.
    """
    try:
        passage = _passage({key: plain(value) for key, value in record.items()}, file, number, prefix)
        check_characters(passage)
    except RefusedError as refused:
        raise bad(file, f"record {number}: {refused.detail}") from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise bad(file, f"record {number} cannot be read: {error}") from None
    return passage


def _passage(record: Mapping[str, Any], file: Path, number: int, prefix: str) -> Passage:
    text = record.get("text", record.get("contents"))
    if not isinstance(text, str):
        raise bad(file, f"record {number} has no text")
    name = name_of(record)
    chunk, start, end = (_count(record, field) for field in _PLACE)
    source = record.get("source")
    return Passage(
        document_id=prefix + (f"{number}" if name is None else name),
        chunk_index=chunk or 0,
        text=text,
        title=str(record.get("title") or ""),
        source=file.name if source is None else str(source),
        start=start or 0,
        end=len(text) if end is None else end,
        attributes=_attributes(record),
    )


def _count(record: Mapping[str, Any], field: str) -> int | None:
    value = record.get(field)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31):
        return value
    raise ValueError(f"the field {field!r} is {value!r}; wanted a number from 0")


def _attributes(record: Mapping[str, Any]) -> Mapping[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {}
    put_attributes(attributes, ((key, value) for key, value in record.items() if key not in _OWN))
    for field in ATTRIBUTE_FIELDS:
        given = record.get(field)
        if isinstance(given, str) and field == "attributes":  # as our export has them
            given = json.loads(given)
        if isinstance(given, dict):
            put_attributes(attributes, given.items())
        elif given is not None:
            put_attributes(attributes, [(field, given)])
    return attributes


def bad(file: Path, why: str) -> InvalidArgument:
    """What is wrong with a file."""
    return InvalidArgument(f"{file}: {why}", mend="check that it belongs to the others, and is whole", field="input")
