"""A predicate over the columns of a segment, in SQL's three-valued logic, without a loop over rows.

Booleans are Arrow's: true, false, and null for unknown. A comparison is unknown where the passage has no value of the
literal's type: nothing there, or a string where the literal is a number. So whether a passage survives depends on that
passage alone, and not on the type that its column took for the sake of others in its segment.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datastore.filters.predicate import (
    BUILT_IN,
    And,
    Comparison,
    IsNull,
    Not,
    OneOf,
    Or,
    Order,
    Predicate,
    StartsWith,
    Value,
)
from datastore.filters.survivors import Survivors
from datastore.store.columns import ATTRIBUTE_PREFIX, IS_STRING_PREFIX, Columns

_ARROW: dict[Order, Callable[[pa.Array, pa.Scalar], pa.Array]] = {
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_PYTHON: dict[Order, Callable[[Value, Value], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def survivors(predicate: Predicate, columns: Columns) -> Survivors:
    """The rows for which the predicate is true."""
    kept = pc.fill_null(_truth(predicate, columns), False)
    rows = len(kept)
    assert kept.offset == 0, "the results of Arrow's functions begin at bit 0"
    # Arrow's bitmaps have the order of bits that is wanted here.
    bitmap = np.frombuffer(kept.buffers()[1] or b"", np.uint8)[: (rows + 7) // 8].copy()
    if rows % 8:
        bitmap[-1] &= (1 << rows % 8) - 1
    return Survivors(rows, bitmap)


def _truth(predicate: Predicate, columns: Columns) -> pa.BooleanArray:
    match predicate:
        case And(parts):
            return functools.reduce(pc.and_kleene, (_truth(part, columns) for part in parts))
        case Or(parts):
            return functools.reduce(pc.or_kleene, (_truth(part, columns) for part in parts))
        case Not(part):
            return pc.invert(_truth(part, columns))
        case IsNull(column):
            array = _column(columns, column)
            return pa.repeat(True, columns.table.num_rows) if array is None else array.is_null()
        case Comparison(column, order, value):
            return _condition(
                columns,
                column,
                value,
                lambda array: _compare(array, order, value),
                lambda it: _PYTHON[order](it, value),
            )
        case OneOf(column, values):
            return _condition(columns, column, values[0], lambda array: _one_of(array, values), values.__contains__)
        case StartsWith(column, prefix):
            return _condition(
                columns,
                column,
                prefix,
                lambda array: pc.starts_with(array, prefix),
                lambda it: str(it).startswith(prefix),
            )


def _column(columns: Columns, name: str) -> pa.Array | None:
    if name not in columns.table.column_names:
        return None
    chunks = columns.table.column(name)
    return chunks.chunk(0) if chunks.num_chunks == 1 else chunks.combine_chunks()  # to combine one would copy it


def _condition(
    columns: Columns,
    name: str,
    literal: Value,
    over_array: Callable[[pa.Array], pa.Array],
    over_value: Callable[[Value], bool],
) -> pa.BooleanArray:
    """A condition on one column.

    Args:
        literal: what it compares with; only values of its type have an answer.
        over_array: the condition over an array of such values.
        over_value: the condition over one of them, for columns of mixed types.
    """
    array = _column(columns, name)
    is_string = _column(columns, name.replace(ATTRIBUTE_PREFIX, IS_STRING_PREFIX, 1)) if name not in BUILT_IN else None
    if array is not None and is_string is not None:
        if isinstance(literal, str):
            return over_array(pc.if_else(is_string, array, None))
        return _over_texts(pc.if_else(is_string, None, array), type(literal), over_value)
    if array is None or not _holds(array.type, literal):
        return pa.nulls(columns.table.num_rows, pa.bool_())
    return _over_distinct(array, over_array) if pa.types.is_dictionary(array.type) else over_array(array)


def _holds(kind: pa.DataType, literal: Value) -> bool:
    """Whether a column of this type has values of the literal's."""
    if isinstance(literal, bool):
        return bool(pa.types.is_boolean(kind))
    if isinstance(literal, str):
        return bool(pa.types.is_large_string(kind.value_type if pa.types.is_dictionary(kind) else kind))
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _over_distinct(array: pa.DictionaryArray, over_array: Callable[[pa.Array], pa.Array]) -> pa.BooleanArray:
    return over_array(array.dictionary).take(array.indices)


def _over_texts(array: pa.Array, kind: type[Value], over_value: Callable[[Value], bool]) -> pa.BooleanArray:
    """A condition on booleans and numbers that are kept as Python writes them; each distinct one is read once."""

    def answer(text: str) -> bool | None:
        boolean = {"True": True, "False": False}.get(text)
        if kind is bool:
            return None if boolean is None else over_value(boolean)
        if boolean is not None:
            return None
        return over_value(int(text) if text.lstrip("-").isdecimal() else float(text))

    return _over_distinct(array.dictionary_encode(), lambda texts: pa.array(map(answer, texts.to_pylist()), pa.bool_()))


def _one_of(array: pa.Array, values: tuple[Value, ...]) -> pa.BooleanArray:
    if pa.types.is_integer(array.type):
        # Floats in here are no integers, and to look for one in a range takes as long as the range.
        values = tuple(value for value in values if isinstance(value, int) and value in _range(array.type))
    elif pa.types.is_floating(array.type):
        values = tuple(float(value) for value in values if float(value) == value)
    match values:
        case ():
            return _everywhere(array, False)
        case (value,):
            return pc.equal(array, pa.scalar(value, array.type))
    if pa.types.is_floating(array.type) and 0.0 in values:
        values += (-0.0,)  # equal, but not to `is_in`
    found = pc.is_in(array, pa.array(values, array.type))  # says false for null
    return pc.if_else(array.is_valid(), found, None) if array.null_count else found


def _compare(array: pa.Array, order: Order, value: str | int | float) -> pa.BooleanArray:
    if not isinstance(value, str):
        limits = _range(array.type) if pa.types.is_integer(array.type) else None
        order, value = _among_doubles(order, value) if limits is None else _among_integers(order, value)
        if limits is not None and value not in limits:
            return _everywhere(array, (value > 0) == (order == "<"))
    return _ARROW[order](array, pa.scalar(value, array.type))


def _among_integers(order: Order, value: int | float) -> tuple[Order, int]:
    """The same comparison for integers; x <= v is x < floor(v) + 1, and so on."""
    bound = math.ceil(value) if order in ("<", ">=") else math.floor(value) + 1
    return "<" if order in ("<", "<=") else ">=", bound


def _among_doubles(order: Order, value: int | float) -> tuple[Order, float]:
    """The same comparison for doubles, of which none lies between an integer and the one nearest to it."""
    nearest = float(value)
    if nearest != value:
        pair: tuple[Order, Order] = ("<=", ">") if nearest < value else ("<", ">=")
        order = pair[order in (">", ">=")]
    return order, nearest


def _range(kind: pa.DataType) -> range:
    return range(-(1 << kind.bit_width - 1), 1 << kind.bit_width - 1)


def _everywhere(array: pa.Array, answer: bool) -> pa.BooleanArray:
    return pc.if_else(array.is_valid(), answer, None)
