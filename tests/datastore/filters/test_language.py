from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datastore.errors import InvalidArgument
from datastore.filters.language import MAX_CHARACTERS, MAX_CONDITIONS, MAX_DEPTH, parse
from datastore.filters.predicate import And, Comparison, IsNull, Not, OneOf, Or, Predicate, StartsWith

if TYPE_CHECKING:
    from tests.datastore.filters.conftest import Filter

A, B, C = (OneOf(f"attribute.{name}", (1,)) for name in "abc")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_canonical_text_says_the_same(filters: st.SearchStrategy[Filter], data: st.DataObject) -> None:
    predicate = parse(data.draw(filters).text)
    again = parse(str(predicate))
    assert again == predicate
    assert repr(again) == repr(predicate), "also in the types of values"
    assert str(again) == str(predicate)


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1)),
)
def test_any_name_and_any_value(name: str, value: str | bool | int) -> None:
    predicate = Not(OneOf(f"attribute.{name}", (value,)))
    again = parse(str(predicate))
    assert repr(again) == repr(predicate)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a=1 or b=1 and c=1", Or((A, And((B, C))))),
        ("a=1 and b=1 or c=1", Or((And((A, B)), C))),
        ("(c=1 or b=1) and a=1", And((A, Or((B, C))))),
        ("not a=1 and b=1", And((Not(A), B))),
        ("not (a=1 and b=1)", Not(And((A, B)))),
        ("not a=1 or b=1", Or((Not(A), B))),
        ("not not a=1", A),
        ("NOT a<>1 AnD b==1", And((A, B))),
        ("a=1 and (b=1 and c=1)", And((A, B, C))),
        ("((((a=1))))", A),
        ("a between 1 and 2 and b=1", And((Comparison("attribute.a", "<=", 2), Comparison("attribute.a", ">=", 1), B))),
        ("a in (1)", A),
        ("a = 1.0", A),
        ("a in (3, 1, 3.0, 2e0)", OneOf("attribute.a", (1, 2, 3))),
        ("a is not null", Not(IsNull("attribute.a"))),
        ("starts_with ( source , 'it''s' )", StartsWith("source", "it's")),
        ("attribute.source = 'x'", OneOf("attribute.source", ("x",))),
        ("\"source\" = 'x'", OneOf("source", ("x",))),
        ('"attribute.a"=1', OneOf("attribute.attribute.a", (1,))),
        ('"in"=1', OneOf("attribute.in", (1,))),
        ("android=1", OneOf("attribute.android", (1,))),
        ("größe >= -.5", Comparison("attribute.größe", ">=", -0.5)),
        ("a\n=\t'AND'", OneOf("attribute.a", ("AND",))),
    ],
)
def test_what_a_text_says(text: str, wanted: Predicate) -> None:
    assert repr(parse(text)) == repr(wanted)


@pytest.mark.parametrize(
    ("text", "problem", "mend"),
    [
        ("", "where is empty; wanted a condition", "year >= 2000"),
        (" \n", "where is empty", ""),
        ("a", "where ends too early; wanted =, !=, <, <=, >, >=, in, between, is or not", ""),
        ("a = ", "where ends too early; wanted a string, a number, true or false", ""),
        ("(a = 1", "where ends too early; wanted )", ""),
        ("a = 1)", "where has ')' at character 6; wanted the end", ""),
        ("a = 1 b = 2", "where has 'b' at character 7; wanted and, or or the end", ""),
        ("a = 1 and and b = 2", "where has 'and' at character 11; wanted a condition", ""),
        ("a in 5", "where has '5' at character 6; wanted (", ""),
        ("a in (5 6)", "where has '6' at character 9; wanted a comma or )", ""),
        ("a in ()", "where has ')' at character 7; wanted a string, a number", ""),
        ("a is 5", "where has '5' at character 6; wanted null or not", ""),
        ("a not 5", "where has '5' at character 7; wanted in or between", ""),
        ("5 < a", "where has '5' at character 1; wanted a condition", "year >= 2000"),
        ("a like 'b%'", "where has 'like' at character 3", "write starts_with(field, 'prefix')"),
        ("a = null", "where has 'null' at character 5", "write field is null"),
        ("a = b", "where has 'b' at character 5", "strings and dates between single quotes"),
        ('a = "b"', "where has '\"b\"' at character 5", "strings and dates between single quotes"),
        ("a = 'b", 'where has "\'b" at character 5; wanted a string', "close the string"),
        ('"a = 1', "where has '\"a = 1' at character 1; wanted a condition", "close the name"),
        ("a >= 2020-01-02", "where has '-01' at character 10", "strings and dates between single quotes"),
        ("a = 5abc", "where has '5abc' at character 5", "strings and dates between single quotes"),
        ("a = 1 && b = 2", "where has '&& b = 2' at character 7; wanted and, or or the end", "write and"),
        ("!(a = 1)", "where has '!(a = 1)' at character 1", "write not"),
        ("pub-date = 1", "where has '-date = 1' at character 4", "between double quotes"),
        ("a = 1; drop", "where has '; drop' at character 6; wanted and, or or the end", ""),
        ("a in (1, 'b')", "'b' at character 10 is of another type than the first", "join two conditions by or"),
        ("a in (1, true)", "true at character 10 is of another type", ""),
        ("a < true", "true at character 5 follows <", "by = and != alone"),
        ("a = 9223372036854775808", "9223372036854775808 at character 5 is beyond 64 bits", "float: 9.22"),
        ("a = 1e999", "1e999 at character 5 is beyond a double", ""),
        ("starts_with(a, 5)", "where has '5' at character 16; wanted a string", "single quotes"),
        ("chunk_index = 'a'", "chunk_index at character 1 is compared with 'a'; wanted a number", ""),
        ("x = 1 or document_id < 5", "document_id at character 10 is compared with 5; wanted a string", ""),
        ("source = true", "source at character 1 is compared with true; wanted a string", ""),
        ("starts_with(chunk_index, '1')", "chunk_index at character 13 is compared with '1'; wanted a number", ""),
        ("a = '\ud800'", "where has U+D800 at character 6, which is no character", ""),
        (f"a = {'1' * 5000}", "is beyond a double", ""),
        (f"a = '{'x' * MAX_CHARACTERS}'", f"where has {MAX_CHARACTERS + 6} characters; at most 10000", ""),
    ],
)
def test_what_is_wrong_is_said(text: str, problem: str, mend: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(text)
    assert problem in str(caught.value)
    assert mend in caught.value.mend
    assert caught.value.field == "where"
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(
    ["a", "source", "=", "<", "in", "not", "and", "or", "(", ")", ",", "1", "'x'", "'", '"', "is", "null", "true", "-",
     "between", "starts_with", ".5", "é", "\0", "attribute."]
), max_size=12).map(" ".join) | st.text(max_size=30))  # fmt: skip
def test_any_text_is_parsed_or_refused_in_one_line(text: str) -> None:
    error = None
    try:
        predicate = parse(text)
    except InvalidArgument as refusal:
        error = refusal
    if error is None:
        assert parse(str(predicate)) == predicate
    else:
        assert error.field == "where"
        assert error.mend
        assert "\n" not in str(error)


def test_depth_is_bounded_and_parentheses_are_not() -> None:
    assert parse("(" * 4000 + "a=1" + ")" * 4000) == A
    assert parse("not " * 2000 + "a=1") == A
    for text in ("(" * 9000, "not " * 2400, ")" * 9000):
        with pytest.raises(InvalidArgument, match=r"ends too early|at character 1;"):
            parse(text)

    def nested(levels: int) -> str:
        return "not (a=1 or " * levels + "b=1" + ")" * levels

    assert str(parse(nested((MAX_DEPTH - 1) // 2))).count("not") == (MAX_DEPTH - 1) // 2
    for levels in (MAX_DEPTH // 2 + 1, 700):
        with pytest.raises(InvalidArgument, match=f"nests and, or and not more than {MAX_DEPTH} deep"):
            parse(nested(levels))


def test_the_number_of_conditions_is_bounded() -> None:
    parse(" or ".join(f"a<{i}" for i in range(MAX_CONDITIONS)))
    parse(f"a in ({','.join(map(str, range(2000)))})")
    with pytest.raises(InvalidArgument, match=f"more than {MAX_CONDITIONS} conditions"):
        parse(" or ".join(f"a<{i}" for i in range(MAX_CONDITIONS + 1)))
