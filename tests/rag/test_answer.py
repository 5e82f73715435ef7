from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from datastore.errors import InvalidArgument
from rag.answer import NOTHING_FOUND, ask
from rag.llm.local import LocalModel
from retriever.api import Retriever

QUESTION = "How many points did the Panthers defense give up?"
GOLD = "x0-0"


def test_a_models_citation_resolves(xquad: Retriever, scripted: Callable[[str], Any]) -> None:
    llm = scripted("They gave up 308 points [1]. So it is [8].\n")
    streamed: list[str] = []
    answer = ask(xquad, llm, QUESTION, mode="bm25", k=3, on_text=streamed.append)
    assert answer.found
    assert answer.text == "They gave up 308 points [1]. So it is [8]."
    assert [(c.number, c.document_id, c.origin) for c in answer.citations] == [(1, GOLD, "model")]
    assert answer.unresolved_citations == (8,)
    assert streamed == [llm.answer]
    assert answer.prompt is not None
    assert llm.asked == [answer.prompt.messages]
    assert len(answer.prompt.passages) == 3
    assert answer.prompt.messages[-1].content.endswith(f"Question: {QUESTION}")
    assert not answer.coverage.complete
    assert list(answer.timings_ms) == ["search", "prompt", "generate", "total"]


def test_an_answer_without_citations_is_attributed(xquad: Retriever, scripted: Callable[[str], Any]) -> None:
    answer = ask(xquad, scripted("The Panthers defense gave up 308 points."), QUESTION, mode="bm25")
    assert answer.text == "The Panthers defense gave up 308 points [1]."
    assert [(c.document_id, c.origin) for c in answer.citations] == [(GOLD, "attributed")]


@pytest.mark.parametrize(
    "question", ["Which enzyme unwinds mitochondrial chromatin in zebrafish embryos?", "zzzz qqqq", "?"]
)
def test_nothing_relevant_is_said_without_the_model(
    xquad: Retriever, scripted: Callable[[str], Any], question: str
) -> None:
    llm = scripted("never")
    answer = ask(xquad, llm, question, mode="bm25")
    assert not answer.found
    assert answer.text == NOTHING_FOUND
    assert (answer.citations, answer.prompt, answer.prompt_tokens) == ((), None, None)
    assert llm.asked == []
    assert answer.to_json()["passages"] == []


def test_diverse_passages_are_asked_of_the_retriever(xquad: Any, scripted: Callable[[str], Any]) -> None:
    ask(xquad, scripted("308 points."), QUESTION, mode="bm25", mmr_lambda=0.5, collapse_similarity=0.9)
    assert (xquad.requests[-1].mmr_lambda, xquad.requests[-1].collapse_similarity) == (0.5, 0.9)


def test_to_json_is_plain(xquad: Retriever, scripted: Callable[[str], Any]) -> None:
    answer = ask(xquad, scripted("308 points."), QUESTION, mode="bm25", k=2, token_budget=300, max_answer_tokens=20)
    seen = json.loads(json.dumps(answer.to_json(), allow_nan=False))
    assert list(seen) == [
        "question",
        "answer",
        "found",
        "citations",
        "unresolved_citations",
        "passages",
        "messages",
        "model",
        "tokens",
        "finish_reason",
        "mode",
        "generation",
        "coverage",
        "timings_ms",
    ]
    assert seen["citations"] == [
        {"number": 1, "document_id": GOLD, "chunk_index": 0, "title": "Super_Bowl_50", "origin": "attributed"}
    ]
    assert seen["passages"][0]["number"] == 1
    assert seen["messages"][0]["role"] == "system"
    assert seen["coverage"]["failures"] == {"b": "down"}
    assert seen["tokens"]["prompt"] <= 280
    assert (seen["model"], seen["generation"], seen["mode"]) == ("scripted", 3, "bm25")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"question": " \n"}, "question"),
        ({"k": 0}, "k"),
        ({"token_budget": 0}, "token_budget"),
        ({"token_budget": 4001}, "token_budget"),
        ({"token_budget": 100}, "token_budget"),
        ({"max_answer_tokens": 0}, "max_answer_tokens"),
        ({"max_answer_tokens": 3990}, "token_budget"),
        ({"min_relevance": 2.0}, "min_relevance"),
        ({"mode": "sparse"}, "mode"),
        ({"mmr_lambda": -0.5}, "mmr_lambda"),
        ({"collapse_similarity": 2.0}, "collapse_similarity"),
    ],
)
def test_values_out_of_bounds(
    xquad: Retriever, scripted: Callable[[str], Any], options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArgument) as error:
        ask(xquad, scripted("never"), **({"question": QUESTION, "mode": "bm25"} | options))
    assert error.value.field == field


def test_the_local_model_answers(xquad: Retriever, smollm: LocalModel) -> None:
    streamed: list[str] = []
    answer = ask(xquad, smollm, QUESTION, mode="bm25", k=1, max_answer_tokens=16, on_text=streamed.append)
    assert answer.prompt is not None
    assert answer.prompt.passages[0].document_id == GOLD
    assert answer.prompt_tokens == answer.prompt.tokens
    assert 0 < (answer.completion_tokens or 0) <= 16
    assert answer.text
    assert "".join(streamed).strip()
    assert {c.document_id for c in answer.citations} <= {p.document_id for p in answer.prompt.passages}
