"""Filters at random, each with what it means for one passage: the oracle of the parser and of the evaluation."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import strategies as st

from datastore.documents import AttributeValue, Passage

Truth = bool | None
Get = Callable[[Passage], AttributeValue | None]

ATTRIBUTES = {"a": "a", "B_2": "attribute.B_2", 'odd "name"': '"odd ""name"""', "source": "attribute.source"}
"""Attribute -> how a filter names it."""
INTEGERS = [0, -1, 1, 2, 5, 1 << 53, (1 << 53) + 1, (1 << 63) - 1, -(1 << 63)]
FLOATS = [0.5, -1.5, 1.0, 2.0, 5.5, 2.0**53, 2.0**63, -(2.0**63), 1e300, -0.0]
TEXTS = ["", "1", "1.0", "2", "True", "x", "xy", "xyz", "y", "it's", "é", "\U0001f98a", "a\nb"]
NOT_IN_LITERALS = [1 << 64, -(1 << 70), float("inf")]
ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Filter:
    """A text, and what it says of a passage: true, false, or None for unknown."""

    text: str
    truth: Callable[[Passage], Truth]


def _kind(value: object) -> type:
    return type(value) if isinstance(value, str | bool) else float


def _literal(value: AttributeValue) -> str:
    if isinstance(value, bool):
        return str(value).upper()
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


def _about(get: Get, value: AttributeValue, holds: Callable[[Any], bool]) -> Callable[[Passage], Truth]:
    def truth(passage: Passage) -> Truth:
        seen = get(passage)
        return holds(seen) if seen is not None and _kind(seen) is _kind(value) else None

    return truth


def _negated(truth: Callable[[Passage], Truth]) -> Callable[[Passage], Truth]:
    def negated(passage: Passage) -> Truth:
        return None if (it := truth(passage)) is None else not it

    return negated


def _joined(word: str, decides: bool, parts: list[Filter]) -> Filter:
    def truth(passage: Passage) -> Truth:
        seen = [part.truth(passage) for part in parts]
        return decides if decides in seen else None if None in seen else not decides

    return parts[0] if len(parts) == 1 else Filter(word.join(part.text for part in parts), truth)


def _attribute(name: str) -> Get:
    return lambda passage: passage.attributes.get(name)


@st.composite
def _condition(draw: st.DrawFn) -> Filter:
    fields: dict[str, tuple[Get, list[list[Any]]]] = {
        text: (_attribute(name), [[*INTEGERS, *FLOATS], TEXTS, [True, False]]) for name, text in ATTRIBUTES.items()
    }
    fields["absent"] = (_attribute("absent"), [[*INTEGERS], TEXTS])
    fields["document_id"] = (lambda passage: passage.document_id, [["d0", "d1", "d10", "d", "e"]])
    fields["chunk_index"] = (lambda passage: passage.chunk_index, [[0, 1, 2, 1.5, 1 << 40]])
    fields["source"] = (lambda passage: passage.source, [["s0", "s1", "s", ""]])
    field = draw(st.sampled_from(sorted(fields)))
    get, literals = fields[field]
    values = draw(st.sampled_from(literals))
    value = draw(st.sampled_from(values))
    negation = draw(st.sampled_from(["", "not ", "NOT\n"]))
    shape = draw(st.sampled_from(["order", "equal", "in", "between", "null", "starts"]))
    if shape == "order" and not isinstance(value, bool):
        order = draw(st.sampled_from(sorted(ORDERS)))
        return Filter(f"{field}{order}{_literal(value)}", _about(get, value, lambda it: ORDERS[order](it, value)))
    if shape == "in":
        several = draw(st.lists(st.sampled_from(values), min_size=1, max_size=4))
        listed, truth = ", ".join(map(_literal, several)), _about(get, value, lambda it: it in several)
        return Filter(f"{field} {negation}in ({listed})", _negated(truth) if negation else truth)
    if shape == "between" and not isinstance(value, bool):
        high = draw(st.sampled_from(values))
        truth = _about(get, value, lambda it: bool(value <= it <= high))
        text = f"{field} {negation}between {_literal(value)} And {_literal(high)}"
        return Filter(text, _negated(truth) if negation else truth)
    if shape == "null":
        return Filter(f"{field} is {negation}null", lambda passage: (get(passage) is None) != bool(negation))
    if shape == "starts" and isinstance(value, str):
        return Filter(f"starts_with({field}, {_literal(value)})", _about(get, value, lambda it: it.startswith(value)))
    equals = _about(get, value, lambda it: bool(it == value))
    operators = {"=": equals, "==": equals, "!=": _negated(equals), "<>": _negated(equals)}
    chosen = draw(st.sampled_from(sorted(operators)))
    return Filter(f"{field} {chosen} {_literal(value)}", operators[chosen])


def _grown(smaller: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    """Parentheses stand only around or-s, or where they change nothing: precedence is the parser's to know."""
    unit = _condition() | smaller.map(lambda part: Filter(f"({part.text})", part.truth))
    unit |= unit.map(lambda part: Filter(f"not {part.text}", _negated(part.truth)))
    both = st.lists(unit, min_size=1, max_size=3).map(lambda parts: _joined(" and ", False, parts))
    return st.lists(both, min_size=1, max_size=3).map(lambda parts: _joined(" OR ", True, parts))


@pytest.fixture(scope="session")
def filters() -> st.SearchStrategy[Filter]:
    return st.recursive(_condition(), _grown, max_leaves=8)


@pytest.fixture(scope="session")
def passages() -> st.SearchStrategy[list[Passage]]:
    """Attributes lack, and have values of all types, mixed or not."""

    def passage(row: int, attributes: dict[str, AttributeValue]) -> Passage:
        return Passage(f"d{row // 2}", row % 2, "text", "", f"s{row % 3}", 0, 4, attributes)

    anything: st.SearchStrategy[Any] = st.sampled_from([*INTEGERS, *FLOATS, *TEXTS, True, False, *NOT_IN_LITERALS])
    one_type: list[list[Any]] = [INTEGERS, FLOATS, [*INTEGERS[:6], *FLOATS], TEXTS, [True, False]]
    values = st.one_of(anything, *(st.sampled_from(pool) for pool in one_type))
    uniform = st.sampled_from(one_type).flatmap(lambda pool: _rows(st.sampled_from(pool)))
    return (_rows(values) | uniform).map(lambda rows: [passage(row, each) for row, each in enumerate(rows)])


def _rows(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, AttributeValue]]]:
    return st.lists(st.dictionaries(st.sampled_from(sorted(ATTRIBUTES)), values, max_size=4), min_size=1, max_size=20)
