"""What a plan is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from datastore.config import IndexConfig
from datastore.errors import InvalidArgument
from datastore.plan.constants import Constants

MAX_DIMENSION = 65_536


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """The size of a datastore, by its `tokens` or by its `passages`, and what is wanted of it.

    Raises:
        InvalidArgument: a value is outside what is allowed.
    """

    tokens: int | None = None
    """Of a language model's vocabulary, as corpora are counted."""
    passages: int | None = None
    dimension: int = 384
    chunk_words: int = 256
    """Words that a passage has on average: what a build was told, where documents are long."""
    tokens_per_passage: float | None = None
    """Instead of `chunk_words` times the tokens a word."""
    index: IndexConfig = field(default_factory=IndexConfig)
    recall: float = 0.95
    """recall@10 against exact search."""
    queries_per_second: float | None = None
    """Aimed at: more replicas where one is not enough."""
    encoder_parameters: float | None = None
    """Outside of the embeddings; None takes BERT's size for the dimension."""
    segment_passages: int | None = None
    """Of a segment at most; None chooses."""
    machines: int | None = None
    """Of the build; None takes as many as serve."""

    def __post_init__(self) -> None:
        if (self.tokens is None) == (self.passages is None):
            given = "neither" if self.tokens is None else "both"
            raise InvalidArgument(
                f"{given} of tokens and passages were given; one says the size",
                mend="pass --tokens 1.4T, or --passages 1.9B, or --like STORE with one of them",
                field="tokens",
            )
        _within("dim", self.dimension, 1, MAX_DIMENSION)
        _within("chunk_words", self.chunk_words, 1, 1_000_000)
        _within("recall", self.recall, 0.5, 0.9999)
        _within("tokens_per_passage", self.tokens_per_passage, 1, 1e7)
        _within("qps", self.queries_per_second, 1e-3, 1e9)
        _within("encoder_params", self.encoder_parameters, 1, 1e13)
        _within("segment_passages", self.segment_passages, 1, 1 << 31)
        _within("machines", self.machines, 1, 1e6)


def _within(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not (math.isfinite(value) and low <= value <= high):
        raise InvalidArgument(
            f"{name} is {value:g}; it must be between {low:g} and {high:g}", mend=f"correct --{name}", field=name
        )


@dataclass(frozen=True, slots=True)
class Size:
    """Of the text."""

    passages: int
    tokens: float
    words: float

    @property
    def tokens_a_passage(self) -> float:
        return self.tokens / self.passages


def size_of(request: PlanRequest, constants: Constants) -> Size:
    tokens_per_word = constants["tokens_per_word"]
    each = request.tokens_per_passage or request.chunk_words * tokens_per_word
    if request.passages is not None:
        tokens = request.passages * each
        return Size(request.passages, tokens, tokens / tokens_per_word)
    assert request.tokens is not None
    return Size(max(1, math.ceil(request.tokens / each)), request.tokens, request.tokens / tokens_per_word)


_USUAL_PARAMETERS = {384: 10.6e6, 768: 85e6, 1024: 303e6}
"""Dimension -> parameters outside of the embeddings, of MiniLM-L6, BERT-base and BERT-large."""


def encoder_parameters(request: PlanRequest) -> float:
    """As given, or of the usual encoder of the nearest dimension; beyond 1024, growing with its square."""
    if request.encoder_parameters is not None:
        return request.encoder_parameters
    nearest = min(_USUAL_PARAMETERS, key=lambda dimension: abs(math.log(dimension / request.dimension)))
    return _USUAL_PARAMETERS[nearest] * max(1.0, (request.dimension / 1024) ** 2)
