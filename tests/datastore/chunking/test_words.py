from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datastore.chunking.spans import CHARACTERS_PER_UNIT
from datastore.chunking.words import chunk_words
from datastore.documents import Document, Passage
from datastore.errors import InvalidArgument

TEXTS = st.text(alphabet=st.one_of(st.sampled_from("ab \n\t\u3000\u2028\x1c\u200b漢é😀"), st.characters())) | st.lists(
    st.text("xy", max_size=70), max_size=40
).map(" ".join)


def chunks(text: str, words: int, title: str = "") -> list[Passage]:
    return list(chunk_words(Document("d", text, title, "s", {"lang": "en"}), words))


def without_space(text: str) -> str:
    return "".join(text.split())


@settings(deadline=None)
@given(TEXTS, st.integers(0, 6))
def test_nothing_is_lost_and_offsets_point_back(text: str, words: int) -> None:
    passages = chunks(text, words)
    assert "".join(without_space(passage.text) for passage in passages) == without_space(text)
    end = 0
    for index, passage in enumerate(passages):
        assert passage.chunk_index == index
        assert end <= passage.start < passage.end
        end = passage.end
        assert passage.text == text[passage.start : passage.end] == passage.text.strip()


@settings(deadline=None)
@given(TEXTS, st.integers(1, 6))
def test_passages_keep_to_both_bounds(text: str, words: int) -> None:
    for passage in chunks(text, words):
        assert len(passage.text.split()) <= words
        assert len(passage.text) <= words * CHARACTERS_PER_UNIT


@settings(deadline=None)
@given(st.lists(st.text("abc", min_size=1, max_size=CHARACTERS_PER_UNIT - 1), min_size=1), st.integers(1, 5))
def test_ordinary_words_are_counted_and_never_cut(word_list: list[str], words: int) -> None:
    expected = [" ".join(word_list[at : at + words]) for at in range(0, len(word_list), words)]
    assert [passage.text for passage in chunks(" ".join(word_list), words)] == expected


def test_worked_example() -> None:
    passages = chunks("  one two\nthree   four five ", 2, "Title")
    assert [(passage.text, passage.start, passage.end) for passage in passages] == [
        ("one two", 2, 9),
        ("three   four", 10, 22),
        ("five", 23, 27),
    ]
    first = passages[0]
    assert (first.document_id, first.title, first.source, first.attributes) == ("d", "Title", "s", {"lang": "en"})


@pytest.mark.parametrize("words", [0, 256])
@pytest.mark.parametrize("text", ["", " \n\u3000"])
def test_a_title_alone_is_one_empty_passage(text: str, words: int) -> None:
    (passage,) = chunks(text, words, "Only a title")
    assert (passage.chunk_index, passage.text, passage.start, passage.end) == (0, "", 0, 0)
    assert passage.indexed_text == "Only a title"
    assert chunks(text, words, " ") == []


def test_zero_words_is_the_whole_text_trimmed() -> None:
    text = "\n " + "word " * 10_000
    (passage,) = chunks(text, 0)
    assert passage.text == text.strip()
    assert passage.start == 2


def test_text_without_spaces_comes_in_bounded_passages() -> None:
    passages = chunks("漢字" * 10_000, 256)
    assert [len(passage.text) for passage in passages] == [4096] * 4 + [20_000 - 4 * 4096]


def test_a_wide_gap_between_words_does_not_make_a_wide_passage() -> None:
    assert [passage.text for passage in chunks("a" + " " * 1_000_000 + "b c", 256)] == ["a", "b c"]


@pytest.mark.parametrize(
    "text", ["x" * 4_000_000, "x " * 1_000_000, " " * 4_000_000 + "x"], ids=["word", "words", "space"]
)
def test_cost_is_linear(text: str) -> None:
    def seconds(part: str) -> float:
        start = time.process_time()
        for _ in chunk_words(Document("d", part), 256):
            pass
        return time.process_time() - start

    # Four times the text at quadratic cost would take sixteen times as long.
    assert seconds(text) < 10 * min(seconds(text[: len(text) // 4]) for _ in range(3)) + 0.2


@pytest.mark.parametrize("words", [-1, 1_000_001])
def test_words_out_of_range_are_refused_before_the_first_passage(words: int) -> None:
    with pytest.raises(InvalidArgument, match=rf"chunk words is {words}; it must be between 0 and 1000000"):
        chunk_words(Document("d", "text"), words)
