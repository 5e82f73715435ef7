"""Citations in an answer: the ones that the model made, and, where it made none, attribution by shared words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from rag.prompt import MARKER, PromptPassage
from rag.words import content_words, share_of

Origin = Literal["model", "attributed"]

SUPPORT_SHARE = 0.6
"""A sentence is attributed to a passage that has at least this share of the sentence's content words."""

_SCAFFOLDING = content_words("according answer answers passage passages question")
"""Words about the prompt, as in "the answer is 42": they say nothing of what supports it."""

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_WIDE = "\u3002\uff01\uff1f"
"""The full stop, exclamation and question mark of Chinese and Japanese, which no space follows."""
_QUOTES = "\"'\u201d\u2019"
# A sentence ends at a line's end, at . ! ? (and what closes after it) before a space, or at a wide mark.
_SENTENCE = re.compile(rf"[^\n]+?(?:[.!?]+[{_QUOTES})\]]*(?=\s)|[{_WIDE}]+|(?=\n)|\Z)")
_CLOSING = f" \t.!?{_WIDE}:;,{_QUOTES}"
"""What a marker goes before, at the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage that the answer rests on. `number` is the passage's in the prompt and in the answer's text."""

    number: int
    document_id: str
    chunk_index: int
    title: str
    origin: Origin
    """`model`: the model wrote the number; `attributed`: it cited nothing, and `attribute` added the number."""


@dataclass(frozen=True, slots=True)
class CitedText:
    text: str
    citations: tuple[Citation, ...]
    """One for each passage cited, in the order of its first citation."""
    unresolved: tuple[int, ...] = ()
    """Numbers that the model cited and no passage has."""


def cited_numbers(text: str) -> list[int]:
    """The numbers in markers such as [1], [1, 3] and [1][2], in order, repeated as written; those in code are not."""
    return [int(n) for marker in MARKER.finditer(_without_code(text)) for n in re.findall(r"\d+", marker[0])]


def cite(answer: str, question: str, passages: Sequence[PromptPassage]) -> CitedText:
    """Resolve the citations in an answer; where not one resolves, attribute its sentences to passages.

    `passages` are those of the prompt. The text comes back as it was, unless citations were attributed.
    """
    by_number = {passage.number: passage for passage in passages}
    numbers = list(dict.fromkeys(cited_numbers(answer)))
    unresolved = tuple(number for number in numbers if number not in by_number)
    citations = tuple(_citation(by_number[number], "model") for number in numbers if number in by_number)
    if citations:
        return CitedText(answer, citations, unresolved)
    text, supporting = attribute(answer, question, passages)
    return CitedText(text, tuple(_citation(passage, "attributed") for passage in supporting), unresolved)


def attribute(answer: str, question: str, passages: Sequence[PromptPassage]) -> tuple[str, tuple[PromptPassage, ...]]:
    """Name, by [n] at its end, the passage that supports each sentence of an answer.

    A sentence's passage is the one that has the largest share of the sentence's content words, if that is at least
    SUPPORT_SHARE; between equals, the one that has more of the question's, then the lower number. It shows where the
    words are, not that the passage entails the sentence. Sentences of a line that follow one another and have the same
    passage share one marker; code is left alone. Returns the text with the markers, and the passages named in the order
    of their first marker.
    """
    asked = content_words(question)
    contents = [(passage, content_words(f"{passage.title} {passage.text}")) for passage in passages]
    supported: list[tuple[int, int, PromptPassage | None]] = []
    for start, end in _sentences(answer):
        words = content_words(answer[start:end]) - _SCAFFOLDING
        ranked = [(share_of(words, c), share_of(asked, c), -p.number, p) for p, c in contents]
        best = max(ranked, key=lambda entry: entry[:3], default=None)
        supported.append((start, end, best[3] if best and best[0] >= SUPPORT_SHARE else None))

    named: dict[int, PromptPassage] = {}
    pieces: list[str] = []
    done = 0
    for (start, end, passage), (next_start, _, next_passage) in pairwise(
        [*supported, (len(answer), len(answer), None)]
    ):
        if passage is None or (passage == next_passage and "\n" not in answer[end:next_start]):
            continue
        named[passage.number] = passage
        place = start + len(answer[start:end].rstrip(_CLOSING))
        pieces += [answer[done:place], f" [{passage.number}]"]
        done = place
    return "".join([*pieces, answer[done:]]), tuple(named.values())


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of each sentence outside code blocks."""
    for match in _SENTENCE.finditer(_without_code(text)):
        if match[0].strip():
            yield match.span()


def _without_code(text: str) -> str:
    """`text` with its code, fenced and inline, blanked out: every other character keeps its place."""
    return _CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), text)


def _citation(passage: PromptPassage, origin: Origin) -> Citation:
    return Citation(passage.number, passage.document_id, passage.chunk_index, passage.title, origin)
