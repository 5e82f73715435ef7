"""The language of `--where`: conditions as in SQL's WHERE, with SQL's null. `docs/filters.md` is the guide.

Lark does the parsing: the grammar below is all of the syntax, nothing is evaluated, and an LALR parser keeps its stack
on the heap, so no depth of parentheses is too much for it. (A parser of whole SQL, such as sqlglot's, would have to be
cut down to this by walking its tree, and recurses.)

Predicates are brought to one form, so that those written differently share what is cached for them: nested `and` and
`or` are flattened, sorted and freed of duplicates, `between` becomes two comparisons, `=` is a set of one, `!=` its
negation, a double negation goes, and 2020.0 is 2020. All of this holds in three-valued logic, too.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from datastore.errors import InvalidArgument
from datastore.filters.complaints import FIELD, place, wrong_syntax
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
    value_text,
)
from datastore.store.columns import ATTRIBUTE_PREFIX

if TYPE_CHECKING:
    from lark import Lark, Token

MAX_CHARACTERS = 10_000
MAX_DEPTH = 32
"""Levels of `and`, `or` and `not` in one another, once flattened."""
MAX_CONDITIONS = 256
"""Each may be a pass over a column. A set counts once."""

GRAMMAR = r"""
start: _either
_either: either | _both
_both: both | _one
either: _both (_OR _both)+
both: _one (_AND _one)+
_one: negation | condition | "(" _either ")"
negation: _NOT _one
?condition: NAME COMPARISON _value              -> comparison
    | NAME _IN _values                          -> one_of
    | NAME _NOT _IN _values                     -> not_one_of
    | NAME _BETWEEN _value _AND _value          -> between
    | NAME _NOT _BETWEEN _value _AND _value     -> not_between
    | NAME _IS _NULL                            -> is_null
    | NAME _IS _NOT _NULL                       -> is_not_null
    | _STARTS_WITH "(" NAME "," STRING ")"      -> starts_with
_values: "(" _value ("," _value)* ")"
_value: STRING | NUMBER | BOOLEAN

_AND.2: /and\b/i
_OR.2: /or\b/i
_NOT.2: /not\b/i
_IN.2: /in\b/i
_BETWEEN.2: /between\b/i
_IS.2: /is\b/i
_NULL.2: /null\b/i
_STARTS_WITH.2: /starts_with\b/i
BOOLEAN.2: /(true|false)\b/i
COMPARISON: /<=|>=|<>|!=|==|=|<|>/
NAME: /(attribute\.)?([^\W\d]\w*|"([^"]|"")+")/
NUMBER: /[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?(?![\w.])/i
STRING: /'([^']|'')*'/
%ignore /\s+/
"""

_INT64 = range(-(1 << 63), 1 << 63)
_LONGEST_INT64 = 20


@functools.lru_cache(maxsize=256)
def parse(text: str) -> Predicate:
    """The predicate that `text` says.

    Raises:
        InvalidArgument: the text is not of this language, is beyond one of the bounds above, or asks of `document_id`,
            `chunk_index` or `source` what cannot be; the message says where.
    """
    if len(text) > MAX_CHARACTERS:
        raise InvalidArgument(
            f"where has {len(text)} characters; at most {MAX_CHARACTERS} are taken",
            mend="put what belongs together into an attribute when building, and compare that",
            field=FIELD,
        )
    _require_unicode(text)
    from lark.exceptions import UnexpectedInput

    try:
        part = cast(_Part, _parser().parse(text))
    except UnexpectedInput as error:
        raise wrong_syntax(text, error, _parser()) from None
    return part.predicate


def _require_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(
            f"where has U+{ord(text[error.start]):04X} {place(error.start)}, which is no character",
            mend="write the text in valid Unicode",
            field=FIELD,
        ) from None


@functools.cache
def _parser() -> Lark:
    from lark import Lark

    # The basic lexer keeps keywords apart from names everywhere; a name that is one stands in quotes.
    return Lark(GRAMMAR, parser="lalr", lexer="basic", transformer=_Builder())


class _Part(NamedTuple):
    """A predicate with what is bounded."""

    predicate: Predicate
    depth: int
    conditions: int


class _Builder:
    """Makes predicates as the parser comes upon them, from the innermost outwards; one method a rule of the grammar."""

    def start(self, children: list[_Part]) -> _Part:
        return children[0]

    def comparison(self, children: list[Any]) -> _Part:
        name, operator, literal = children
        if operator in ("=", "=="):
            return self.one_of([name, literal])
        if operator in ("!=", "<>"):
            return self.not_one_of([name, literal])
        return _Part(_comparison(name, cast(Order, str(operator)), literal), 1, 1)

    def one_of(self, children: list[Token]) -> _Part:
        name, *literals = children
        values = [_value(literal) for literal in literals]
        for value, literal in zip(values, literals, strict=True):
            if _kind(value) != _kind(values[0]):
                raise _refused(
                    literal, "is of another type than the first", "values of one type", "join two conditions by or"
                )
        return _Part(OneOf(_column(name, values[0]), tuple(sorted(set(values)))), 1, 1)

    def not_one_of(self, children: list[Token]) -> _Part:
        return self.negation([self.one_of(children)])

    def between(self, children: list[Token]) -> _Part:
        name, low, high = children
        return self.both([_Part(_comparison(name, ">=", low), 1, 1), _Part(_comparison(name, "<=", high), 1, 1)])

    def not_between(self, children: list[Token]) -> _Part:
        return self.negation([self.between(children)])

    def is_null(self, children: list[Token]) -> _Part:
        return _Part(IsNull(_column(children[0])), 1, 1)

    def is_not_null(self, children: list[Token]) -> _Part:
        return self.negation([self.is_null(children)])

    def starts_with(self, children: list[Token]) -> _Part:
        name, literal = children
        prefix = str(_value(literal))
        return _Part(StartsWith(_column(name, prefix), prefix), 1, 1)

    def negation(self, children: list[_Part]) -> _Part:
        (part,) = children
        if isinstance(part.predicate, Not):
            return _Part(part.predicate.part, part.depth - 1, part.conditions)
        return _bounded(_Part(Not(part.predicate), part.depth + 1, part.conditions))

    def both(self, children: list[_Part]) -> _Part:
        return _joined(And, children)

    def either(self, children: list[_Part]) -> _Part:
        return _joined(Or, children)


def _joined(join: type[And] | type[Or], children: list[_Part]) -> _Part:
    parts: dict[str, Predicate] = {}
    depth = 0
    for child in children:
        nested = isinstance(child.predicate, join)
        depth = max(depth, child.depth - nested)
        for predicate in child.predicate.parts if isinstance(child.predicate, join) else (child.predicate,):
            parts[str(predicate)] = predicate
    conditions = sum(child.conditions for child in children)
    ordered = tuple(parts[text] for text in sorted(parts))
    return _bounded(_Part(join(ordered), depth + 1, conditions) if len(ordered) > 1 else children[0])


def _bounded(part: _Part) -> _Part:
    if part.depth > MAX_DEPTH:
        raise InvalidArgument(
            f"where nests and, or and not more than {MAX_DEPTH} deep; wanted at most that",
            mend="write it flatter: not (a or b) is not a and not b",
            field=FIELD,
        )
    if part.conditions > MAX_CONDITIONS:
        raise InvalidArgument(
            f"where has more than {MAX_CONDITIONS} conditions; wanted at most that",
            mend="put the values of one field into one set: field in (1, 2, 3)",
            field=FIELD,
        )
    return part


def _comparison(name: Token, order: Order, literal: Token) -> Comparison:
    value = _value(literal)
    if isinstance(value, bool):
        raise _refused(literal, f"follows {order}", "= or != before it", "compare true and false by = and != alone")
    return Comparison(_column(name, value), order, value)


def _column(name: Token, value: Value | None = None) -> str:
    """The column of this name; `value` is what it is compared with."""
    prefixed, quoted = name.startswith(ATTRIBUTE_PREFIX), name.endswith('"')
    text = name.removeprefix(ATTRIBUTE_PREFIX)
    text = text[1:-1].replace('""', '"') if quoted else text
    if prefixed or text not in BUILT_IN:
        return ATTRIBUTE_PREFIX + text
    kind = BUILT_IN[text]
    if value is not None and _kind(value) is not kind:
        wanted = "a string" if kind is str else "a number"
        raise _refused(name, f"is compared with {value_text(value)[:50]}", wanted, f"compare {text} with {wanted}")
    return text


def _value(literal: Token) -> Value:
    if literal.type == "STRING":
        return literal[1:-1].replace("''", "'")
    if literal.type == "BOOLEAN":
        return literal.lower() == "true"
    number = float(literal)
    if not math.isfinite(number):
        raise _refused(literal, "is beyond a double", "a number that a double holds", "compare with a smaller number")
    if not set(literal) & set(".eE"):
        if len(literal) > _LONGEST_INT64 or int(literal) not in _INT64:
            raise _refused(literal, "is beyond 64 bits", "an integer of 64 bits", f"write it as a float: {number!r}")
        return int(literal)
    return int(number) if number.is_integer() and int(number) in _INT64 else number


def _kind(value: Value) -> type[str] | type[bool] | type[int]:
    """Type of a value, where integers and floats are both numbers."""
    return type(value) if isinstance(value, str | bool) else int


def _refused(token: Token, fault: str, wanted: str, mend: str) -> InvalidArgument:
    seen = f"{token[:30]} {place(token.start_pos or 0)} {fault}"
    return InvalidArgument(f"where: {seen}; wanted {wanted}", mend=mend, field=FIELD)
