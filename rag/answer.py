"""Answering a question from a datastore: search, relevance, prompt fusion, generation, citations."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from datastore.errors import InvalidArgument
from rag.citations import Citation, cite
from rag.llm.api import FinishReason, LanguageModel, OnText
from rag.prompt import Prompt, build_prompt
from rag.relevance import any_relevant, check_min_relevance
from retriever.api import Coverage, Mode, Retriever, SearchRequest

NOTHING_FOUND = "Nothing relevant to this question was found in the datastore."
MAX_ANSWER_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, and everything that it rests on."""

    question: str
    text: str
    """What the model wrote, with the markers of attributed citations added; NOTHING_FOUND if nothing was."""
    found: bool
    """Whether the datastore had anything relevant. If not, no model was asked, and `prompt` is None."""
    citations: tuple[Citation, ...]
    unresolved_citations: tuple[int, ...]
    """Numbers that the model cited and no passage of the prompt has."""
    prompt: Prompt | None
    model: str
    prompt_tokens: int | None
    """As the model counted them; None where it was not asked or does not say. The same for the completion's."""
    completion_tokens: int | None
    finish_reason: FinishReason | None
    mode: Mode
    generation: int
    """Of the datastore."""
    coverage: Coverage
    timings_ms: Mapping[str, float]
    """Stage -> milliseconds: search, prompt (with loading a local model, the first time), generate, total."""

    def to_json(self) -> dict[str, Any]:
        """As `pergamon ask --json` prints it: plain values only."""
        return {
            "question": self.question,
            "answer": self.text,
            "found": self.found,
            "citations": [asdict(citation) for citation in self.citations],
            "unresolved_citations": list(self.unresolved_citations),
            "passages": [asdict(passage) for passage in self.prompt.passages] if self.prompt else [],
            "messages": [asdict(message) for message in self.prompt.messages] if self.prompt else [],
            "model": self.model,
            "tokens": {"prompt": self.prompt_tokens, "completion": self.completion_tokens},
            "finish_reason": self.finish_reason,
            "mode": self.mode,
            "generation": self.generation,
            "coverage": asdict(self.coverage),
            "timings_ms": dict(self.timings_ms),
        }


def ask(
    retriever: Retriever,
    llm: LanguageModel,
    question: str,
    *,
    k: int = 5,
    mode: Mode = "hybrid",
    recall: float | None = None,
    mmr_lambda: float | None = None,
    collapse_similarity: float | None = None,
    where: str | None = None,
    min_relevance: float | None = None,
    token_budget: int | None = None,
    max_answer_tokens: int = MAX_ANSWER_TOKENS,
    on_text: OnText | None = None,
) -> Answer:
    """Answer a question from the `k` best passages of a datastore.

    Args:
        recall: as in `SearchRequest`, of what is found by vector.
        mmr_lambda: as in `SearchRequest`, like `collapse_similarity`: passages that say the same waste the prompt.
        where: as in `SearchRequest`: what the answer may rest on.
        min_relevance: see `rag.relevance.any_relevant`; where no hit reaches it, no model is asked.
        token_budget: tokens of the prompt and of the room for the answer together; by default all that the model has.
        max_answer_tokens: the room for the answer.
        on_text: gets the answer as the model writes it, so without the markers of attributed citations.

    Raises:
        InvalidArgument: an empty question, or a value out of its bounds, with the field named.
        PergamonError: what the retriever or the model raises.
    """
    if not question.strip():
        raise InvalidArgument(
            "question is empty; wanted some text", mend="ask a question of at least one word", field="question"
        )
    check_min_relevance(min_relevance)
    if max_answer_tokens < 1:
        raise InvalidArgument(
            f"max_answer_tokens is {max_answer_tokens}; it must be at least 1",
            mend="pass a larger number",
            field="max_answer_tokens",
        )
    started = time.perf_counter()
    response = retriever.search(
        SearchRequest(
            query=question,
            k=k,
            mode=mode,
            recall=recall,
            mmr_lambda=mmr_lambda,
            collapse_similarity=collapse_similarity,
            where=where,
        )
    )
    searched = time.perf_counter()
    if not any_relevant(question, mode, response.hits, min_relevance):
        return Answer(
            question=question,
            text=NOTHING_FOUND,
            found=False,
            citations=(),
            unresolved_citations=(),
            prompt=None,
            model=llm.name,
            prompt_tokens=None,
            completion_tokens=None,
            finish_reason=None,
            mode=mode,
            generation=response.generation,
            coverage=response.coverage,
            timings_ms={"search": _ms(started, searched), "total": _ms(started, searched)},
        )
    prompt = build_prompt(
        question,
        response.hits,
        count_tokens=llm.count_tokens,
        token_budget=_budget(token_budget, llm),
        answer_tokens=max_answer_tokens,
    )
    fused = time.perf_counter()
    generation = llm.generate(prompt.messages, max_tokens=max_answer_tokens, on_text=on_text)
    generated = time.perf_counter()
    cited = cite(generation.text.strip(), question, prompt.passages)
    return Answer(
        question=question,
        text=cited.text,
        found=True,
        citations=cited.citations,
        unresolved_citations=cited.unresolved,
        prompt=prompt,
        model=llm.name,
        prompt_tokens=generation.prompt_tokens,
        completion_tokens=generation.completion_tokens,
        finish_reason=generation.finish_reason,
        mode=mode,
        generation=response.generation,
        coverage=response.coverage,
        timings_ms={
            "search": _ms(started, searched),
            "prompt": _ms(searched, fused),
            "generate": _ms(fused, generated),
            "total": _ms(started, generated),
        },
    )


def _budget(token_budget: int | None, llm: LanguageModel) -> int:
    if token_budget is None:
        return llm.context_tokens
    if not 1 <= token_budget <= llm.context_tokens:
        raise InvalidArgument(
            f"token_budget is {token_budget}; {llm.name} takes 1 to {llm.context_tokens}",
            mend="pass a token budget in that range, or none",
            field="token_budget",
        )
    return token_budget


def _ms(start: float, end: float) -> float:
    return 1000.0 * (end - start)
