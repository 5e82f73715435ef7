from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.citations import cite, cited_numbers
from rag.prompt import PromptPassage

PASSAGES = (
    PromptPassage(1, "oslo", 4, "Oslo", "Oslo is the capital of Norway. It lies at the head of a fjord.", False),
    PromptPassage(
        2, "bergen", 0, "Bergen", "Bergen is a city on the west coast. It rains there 231 days a year.", False
    ),
    PromptPassage(3, "tea", 1, "", "Tea is made from leaves. Dr. Lind drank tea at sea.", False),
)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("Yes [1].", [1]),
        ("Yes [1, 3], no [2 ,1].", [1, 3, 2, 1]),
        ("Yes[1][2].", [1, 2]),
        ("None: [ 1], [a], [], [1-2], (1), [1.5], [1234567].", []),
        ("In code `x[1]` and\n```\ny[2]\n```\nbut [3].", [3]),
        ("An open fence\n```\ny[2]", []),
        ("Arabic digits [\u0661] are none.", []),
    ],
)
def test_markers(text: str, numbers: list[int]) -> None:
    assert cited_numbers(text) == numbers


def test_the_models_citations_resolve_in_their_order() -> None:
    answer = "It rains [2]. The capital is Oslo [1, 2][9]. Perhaps [0]."
    cited = cite(answer, "Where?", PASSAGES)
    assert cited.text == answer
    assert [(c.number, c.document_id, c.chunk_index, c.title, c.origin) for c in cited.citations] == [
        (2, "bergen", 0, "Bergen", "model"),
        (1, "oslo", 4, "Oslo", "model"),
    ]
    assert cited.unresolved == (9, 0)


def test_sentences_without_citations_are_attributed() -> None:
    cited = cite(
        "The capital of Norway is Oslo. It rains 231 days a year in Bergen! Bananas are yellow fruit.",
        "What?",
        PASSAGES,
    )
    assert cited.text == (
        "The capital of Norway is Oslo [1]. It rains 231 days a year in Bergen [2]! Bananas are yellow fruit."
    )
    assert [(c.number, c.document_id, c.origin) for c in cited.citations] == [
        (1, "oslo", "attributed"),
        (2, "bergen", "attributed"),
    ]
    assert cited.unresolved == ()


def test_attribution_happens_when_the_models_numbers_resolve_to_nothing() -> None:
    cited = cite("Oslo is the capital [7].", "What?", PASSAGES)
    assert cited.unresolved == (7,)
    assert [(c.number, c.origin) for c in cited.citations] == [(1, "attributed")]


def test_a_short_answer_goes_to_the_passage_that_has_the_questions_words() -> None:
    passages = (
        PromptPassage(1, "a", 0, "", "The number 231 is odd.", False),
        PromptPassage(2, "b", 0, "", "In Bergen it rains 231 days a year.", False),
    )
    cited = cite("The answer is: 231", "How many days does it rain in Bergen?", passages)
    assert cited.text == "The answer is: 231 [2]"


def test_sentences_in_a_row_share_a_marker_and_lines_do_not() -> None:
    cited = cite("Dr. Lind drank tea at sea. Tea is made from leaves.\n- Tea leaves", "?", PASSAGES)
    assert cited.text == "Dr. Lind drank tea at sea. Tea is made from leaves [3].\n- Tea leaves [3]"


def test_code_gets_no_marker() -> None:
    answer = "Use this:\n```\noslo = capital\n```\n"
    cited = cite(answer, "?", (PromptPassage(1, "a", 0, "", "oslo capital", False),))
    assert (cited.text, cited.citations) == (answer, ())


def test_wide_punctuation_ends_a_sentence() -> None:
    passages = (PromptPassage(1, "a", 0, "", "Осло 首都", False),)
    assert cite("Осло 首都。Берген。", "?", passages).text == "Осло 首都 [1]。Берген。"


def test_nothing_to_attribute() -> None:
    assert cite("", "?", PASSAGES).text == ""
    assert cite("The of and.", "?", PASSAGES).citations == ()
    assert cite("Oslo.", "?", ()).citations == ()


@given(st.text(st.sampled_from("ab oslo[]1,2.!?\n`。"), max_size=120))
def test_attribution_only_adds_markers_that_resolve(answer: str) -> None:
    cited = cite(answer, "oslo?", PASSAGES)
    numbers = {c.number for c in cited.citations}
    if any(c.origin == "attributed" for c in cited.citations):
        without = cited.text
        for number in numbers:
            without = without.replace(f" [{number}]", "")
        plain = answer
        for number in numbers:
            plain = plain.replace(f" [{number}]", "")
        assert without == plain
        assert numbers <= set(cited_numbers(cited.text))
    else:
        assert cited.text == answer
        assert numbers == {n for n in cited_numbers(answer) if n in (1, 2, 3)}
