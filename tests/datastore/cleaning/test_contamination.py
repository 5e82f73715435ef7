from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from datastore.cleaning.contamination import ContaminationFilter
from datastore.cleaning.questions import Question
from datastore.cleaning.rephrased import RephrasedFilter, sentences
from datastore.cleaning.settings import ContaminationSettings, RephrasedSettings
from datastore.encoders.hashing import HashingEncoder
from datastore.sources.rejects import RefusedError

RUNS = ContaminationSettings(questions=("q",), run_share=1, min_jaccard=0)
NGRAMS = ContaminationSettings(questions=("q",), run_words=1000, run_share=1)
MOON = "Who was the first person to walk on the surface of the moon in 1969?"  # 15 words
DOVE = "What bird is the sign of peace?"  # 7 words


def asked(*texts: str) -> list[Question]:
    return [Question(text, "set.jsonl", i) for i, text in enumerate(texts, 1)]


def detail(text: str, settings: ContaminationSettings, *questions: str) -> str:
    try:
        ContaminationFilter(settings, asked(*(questions or (MOON, DOVE)))).check(text)
    except RefusedError as refused:
        return f"{refused.reason}: {refused.detail}"
    return ""


def around(text: str) -> str:
    return f"It was asked in a quiz on Sunday: {text} Nobody knew what to say, and the evening went on."


def test_a_question_is_found_and_named() -> None:
    expected = f"contaminated: 15 words in a row with line 1 of set.jsonl: {MOON!r}"
    assert detail(around(MOON), RUNS) == expected
    assert detail(around(MOON.upper().replace(" ", "\n")), RUNS) == expected
    assert "7 words in a row with line 2" in detail(around(DOVE), RUNS)
    assert detail(around("Nothing of the kind."), RUNS) == ""


@pytest.mark.parametrize(("words", "found"), [(15, True), (13, True), (12, False)])
def test_thirteen_words_in_a_row_of_a_long_question(words: int, found: bool) -> None:
    for part in (MOON.split()[:words], MOON.split()[-words:]):
        assert bool(detail(around(" ".join(part)), RUNS)) == found


def test_a_short_question_must_be_there_whole_or_by_its_share() -> None:
    part = around("bird is the sign of peace")
    assert detail(part, RUNS) == ""
    assert "6 words in a row" in detail(part, ContaminationSettings(questions=("q",), min_jaccard=0))
    assert detail(around("is the sign of peace"), ContaminationSettings(questions=("q",), min_jaccard=0)) == "", (
        "5 of 7 words are more than its share, but may be said of anything"
    )


def test_very_short_questions_are_not_looked_for() -> None:
    assert detail("who is it now then", RUNS, "Who is it now?") == ""
    assert ContaminationFilter(RUNS, asked("Who is it now?", DOVE)).questions == asked("", DOVE)[1:]
    assert detail("anything", RUNS, "Who?") == ""


@given(st.lists(st.sampled_from("abc"), max_size=30), st.lists(st.sampled_from("abc"), min_size=5, max_size=15))
def test_runs_against_a_plain_search(text: list[str], question: list[str]) -> None:
    longest = max(
        (size for size in range(1, len(question) + 1) for i in range(len(question) - size + 1)
         if any(text[j : j + size] == question[i : i + size] for j in range(len(text) - size + 1))),
        default=0,
    )  # fmt: skip
    settings = ContaminationSettings(questions=("q",), run_words=8, run_share=1, min_jaccard=0)
    found = detail(" ".join(text), settings, " ".join(question))
    assert bool(found) == (longest >= min(8, len(question)))
    if found:
        assert f"{longest} words in a row" in found


def test_ngrams_in_a_window() -> None:
    # 15 words have 13 3-grams; with the fifth word replaced 3 of them are gone: 10 / (26 - 10).
    changed = MOON.replace("person", "human")
    assert "Jaccard 0.62 of 3-grams" in detail(around(changed), NGRAMS)
    assert detail(around(changed.replace("surface", "ground")), NGRAMS) == ""
    # The same 3-grams, but far from one another, are no question.
    spread = " ".join(
        f"{' '.join(MOON.split()[i : i + 3])} and then it rained for days on end there" for i in range(13)
    )
    assert detail(spread, NGRAMS) == ""


def test_turns_of_phrase_are_no_evidence() -> None:
    questions = [f"What is the name of the river that runs through town {i}?" for i in range(30)]
    assert detail("What is the name of the river that runs through it all", NGRAMS, *questions) == ""
    assert detail("What is the name of the river that runs through it all", NGRAMS, questions[0]) != ""


# -- rephrased -------------------------------------------------------------------------------------------------


def same_words(texts: Sequence[str]) -> NDArray[np.float32]:
    return HashingEncoder().encode_queries(texts)


def rephrased(text: str, settings: RephrasedSettings, *questions: str) -> str:
    try:
        RephrasedFilter(settings, asked(*questions), same_words).check(text)
    except RefusedError as refused:
        return refused.detail
    return ""


@pytest.mark.parametrize("share", [0, 0.4])
def test_a_sentence_near_a_question_is_found(share: float) -> None:
    settings = RephrasedSettings(min_cosine=0.8, min_shared_words=share)
    moved = "Walk on the surface of the moon in 1969, who was the first person to"
    found = rephrased(around(moved + "?"), settings, MOON, DOVE)
    assert "line 1 of set.jsonl" in found
    assert "cosine" in found
    assert rephrased(around("The weather was fine"), settings, MOON, DOVE) == ""
    assert rephrased("", settings, MOON) == ""


def test_only_what_may_be_near_is_embedded() -> None:
    calls: list[str] = []

    def watched(texts: Sequence[str]) -> NDArray[np.float32]:
        calls.extend(texts)
        return same_words(texts)

    checking = RephrasedFilter(RephrasedSettings(), asked(MOON, DOVE), watched)
    checking.check("A long story about rivers. It has many sentences. They are of no interest here.")
    assert calls == []
    checking.check("Rivers run. A bird is a sign that peace is near. Rivers run on.")
    assert calls == ["A bird is a sign that peace is near.", DOVE]


def test_sentences() -> None:
    assert sentences("One two three. Four five! six seven eight\nnine ten eleven") == [
        "One two three.",
        "six seven eight",
        "nine ten eleven",
    ]
    assert [len(part.split()) for part in sentences("w " * 130)] == [64, 64]
