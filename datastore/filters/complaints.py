"""What is wrong with the text of a filter, said in the words of the language and not of its parser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datastore.errors import InvalidArgument

if TYPE_CHECKING:
    from lark import Lark
    from lark.exceptions import UnexpectedInput

FIELD = "where"
EXAMPLE_MEND = "write conditions such as year >= 2000 and source in ('arxiv', 'pubmed')"

_WANTED = {
    "NAME": "a condition",
    "COMPARISON": "=, !=, <, <=, >, >=, in, between, is or not",
    "BOOLEAN": "a string, a number, true or false",
    "STRING": "a string",
    "_IN": "in or between",
    "_NULL": "null",
    "_NOT": "not",
    "LPAR": "(",
    "COMMA": "a comma",
    "RPAR": ")",
    "_AND": "and",
    "_OR": "or",
    "$END": "the end",
}
"""Terminal of the grammar -> what it begins or is. The first three and `_IN` stand for all that can come there."""
_STANDS_FOR_ALL = ("NAME", "COMPARISON", "BOOLEAN", "STRING", "_IN")

_MENDS = {
    "like": "write starts_with(field, 'prefix')",
    "ilike": "write starts_with(field, 'prefix')",
    "null": "write field is null, or field is not null",
    "&": "write and",
    "|": "write or",
    "!": "write not",
    "'": "close the string with a single quote, and double a quote within it",
    '"': "close the name with a double quote, and put strings between single quotes",
}
"""What was seen, in lower case -> the mend."""
_QUOTE_STRING = "put strings and dates between single quotes"
_QUOTE_NAME = "put names with other signs than letters, digits and _ between double quotes"


def place(position: int) -> str:
    """Where in a text, for people, who count from 1."""
    return f"at character {position + 1}"


def wrong_syntax(text: str, error: UnexpectedInput, parser: Lark) -> InvalidArgument:
    """The error for a text that the parser refused."""
    from lark.exceptions import UnexpectedCharacters, UnexpectedToken

    if isinstance(error, UnexpectedToken) and error.token.type == "$END":
        seen, wanted, mend = "ends too early" if text.strip() else "is empty", error.accepts, EXAMPLE_MEND
    elif isinstance(error, UnexpectedToken):
        token, wanted = error.token, error.accepts
        seen, mend = f"has {_short(str(token))!r} {place(token.start_pos or 0)}", _mend(token, token.type, wanted)
    elif isinstance(error, UnexpectedCharacters):
        position = error.pos_in_stream or 0
        # The lexer does not know what could come here; the parser does, once it has read all before it.
        before = parser.parse_interactive(text[:position])
        before.exhaust_lexer()
        wanted = before.accepts()  # type: ignore[no-untyped-call]
        seen, mend = f"has {_short(text[position:])!r} {place(position)}", _mend(text[position], "", wanted)
    else:
        raise error
    return InvalidArgument(f"where {seen}; wanted {_alternatives(wanted)}", mend=mend, field=FIELD)


def _short(text: str) -> str:
    return text if len(text) <= 30 else f"{text[:30]}…"


def _mend(seen: str, kind: str, wanted: set[str]) -> str:
    if seen.lower() in _MENDS:
        return _MENDS[seen.lower()]
    if "STRING" in wanted or (kind == "NUMBER" and "_AND" in wanted):  # a date is a number and -01
        return _QUOTE_STRING
    return EXAMPLE_MEND if kind else _QUOTE_NAME


def _alternatives(wanted: set[str]) -> str:
    for terminal in _STANDS_FOR_ALL:
        if terminal in wanted:
            return _WANTED[terminal]
    *others, last = [words for terminal, words in _WANTED.items() if terminal in wanted]
    return f"{', '.join(others)} or {last}" if others else last
