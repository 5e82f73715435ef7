"""What a filter says of a passage: conditions on its columns, joined by and, or and not.

`str(predicate)` is the canonical text: predicates that were written differently and mean the same by the rules of
`datastore.filters.language` have one text, and parsing it gives the predicate again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from datastore.store.columns import ATTRIBUTE_PREFIX

Value = str | int | float | bool
Order = Literal["<", "<=", ">", ">="]

BUILT_IN: dict[str, type[str] | type[int]] = {"document_id": str, "chunk_index": int, "source": str}
"""Columns that every segment has, and what is in them."""
KEYWORDS = frozenset(["and", "or", "not", "in", "between", "is", "null", "true", "false", "starts_with"])
_PLAIN_NAME = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True, slots=True)
class Comparison:
    """The value comes before or after another of its type: numbers by size, strings by code point."""

    column: str
    order: Order
    value: str | int | float

    def __str__(self) -> str:
        return f"{column_text(self.column)} {self.order} {value_text(self.value)}"


@dataclass(frozen=True, slots=True)
class OneOf:
    """The value equals one of these, which are of one type, sorted, and at least one."""

    column: str
    values: tuple[Value, ...]

    def __str__(self) -> str:
        return _one_of(self, "=", "in")


@dataclass(frozen=True, slots=True)
class StartsWith:
    """The value is a string that begins so."""

    column: str
    prefix: str

    def __str__(self) -> str:
        return f"starts_with({column_text(self.column)}, {value_text(self.prefix)})"


@dataclass(frozen=True, slots=True)
class IsNull:
    """The passage has no value there."""

    column: str

    def __str__(self) -> str:
        return f"{column_text(self.column)} is null"


@dataclass(frozen=True, slots=True)
class Not:
    part: Predicate

    def __str__(self) -> str:
        match self.part:
            case OneOf():
                return _one_of(self.part, "!=", "not in")
            case IsNull(column):
                return f"{column_text(column)} is not null"
            case StartsWith():
                return f"not {self.part}"
            case _:
                return f"not ({self.part})"


@dataclass(frozen=True, slots=True)
class And:
    """All of these, two or more, none of them an And; in the order of their texts."""

    parts: tuple[Predicate, ...]

    def __str__(self) -> str:
        return " and ".join(f"({part})" if isinstance(part, Or) else str(part) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of these, two or more, none of them an Or; in the order of their texts."""

    parts: tuple[Predicate, ...]

    def __str__(self) -> str:
        return " or ".join(str(part) for part in self.parts)


Predicate = Comparison | OneOf | StartsWith | IsNull | Not | And | Or


def column_text(column: str) -> str:
    """How the language names a column of a segment."""
    if column in BUILT_IN:
        return column
    name = column.removeprefix(ATTRIBUTE_PREFIX)
    plain = _PLAIN_NAME.fullmatch(name) and name.lower() not in KEYWORDS
    text = name if plain else '"' + name.replace('"', '""') + '"'
    return ATTRIBUTE_PREFIX + text if name in BUILT_IN else text


def value_text(value: Value) -> str:
    """How the language writes a value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


def _one_of(condition: OneOf, single: str, several: str) -> str:
    column, values = column_text(condition.column), [value_text(value) for value in condition.values]
    return f"{column} {single} {values[0]}" if len(values) == 1 else f"{column} {several} ({', '.join(values)})"
