"""One record, of JSON Lines, Parquet or a dataset, to one document."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from datastore.config import InputConfig
from datastore.documents import AttributeValue, Document
from datastore.sources.rejects import RefusedError

ID_FIELDS = ("_id", "id")
ATTRIBUTE_FIELDS = ("metadata", "attributes")
SOURCE_FIELD = "source"
_INT64 = range(-(1 << 63), 1 << 63)


def document_of(record: Mapping[str, Any], name: str, source: str, config: InputConfig) -> Document:
    """The document in a record, whose values are those that JSON has.

    Text is required (it may be empty where there is a title). The id is a string or an integer. Title and source are
    optional strings. The entries of the objects `metadata` and `attributes`, and then every other field, become
    attributes: strings, booleans and numbers as they are; lists, objects and integers beyond 64 bits as their JSON
    text; null not at all.

    Args:
        name: the id of a document that brings none.
        source: the source of a document that names none.
        config: which fields hold text, id and title.

    Raises:
        RefusedError: the record has no text, or a field of a wrong type.
    """
    if record.get(config.text_field) is None:
        raise RefusedError("no text", f"the field {config.text_field!r} is missing; it must be a string")
    id_fields = ID_FIELDS if config.id_field is None else (config.id_field,)
    id_field = next((field for field in id_fields if record.get(field) is not None), None)
    document_id = record[id_field] if id_field else name
    if not isinstance(document_id, str | int) or isinstance(document_id, bool):
        raise RefusedError(
            "wrong type", f"the field {id_field!r} is {kind_of(document_id)}; wanted a string or an integer"
        )
    fields = (config.text_field, config.title_field, SOURCE_FIELD)
    text, title, named_source = (_string(record, field) for field in fields)

    attributes: dict[str, AttributeValue] = {}
    used = {id_field, *fields}
    for field in ATTRIBUTE_FIELDS:
        if field not in used and isinstance(record.get(field), dict):
            used.add(field)
            put_attributes(attributes, record[field].items())
    put_attributes(attributes, ((field, value) for field, value in record.items() if field not in used))
    return Document(str(document_id), text, title, named_source or source, attributes)


def _string(record: Mapping[str, Any], field: str) -> str:
    value = record.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RefusedError("wrong type", f"the field {field!r} is {kind_of(value)}; wanted a string")
    return value


def put_attributes(attributes: dict[str, AttributeValue], fields: Iterable[tuple[str, Any]]) -> None:
    """Add fields, whose values are those that JSON has, as attributes (see `document_of`)."""
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


def kind_of(value: object) -> str:
    """What a value is called in JSON, with its article."""
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
