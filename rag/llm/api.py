"""What a language model is to the rest of `rag`: something that counts and continues a chat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "other"]
OnText = Callable[[str], None]
"""Called with each new piece of the answer as it comes; the pieces joined are the answer's text.

A local model's may be longer: where it begins to repeat itself, the sentence begun is taken back."""


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Generation:
    """What a model answered."""

    text: str
    prompt_tokens: int | None
    """As the model counted them; None where a server does not say. The same for the completion's."""
    completion_tokens: int | None
    finish_reason: FinishReason
    """`stop`: the model ended by itself; `length`: it was cut off at `max_tokens`; `other`: a filter, a loop."""


class LanguageModel(Protocol):
    """A chat model; thread-safe. Errors are those of `datastore.errors`."""

    @property
    def name(self) -> str: ...

    @property
    def context_tokens(self) -> int:
        """The most tokens that prompt and answer may have together."""
        ...

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of the rendered prompt, chat template included: exact, or a bound that the truth never exceeds."""
        ...

    def generate(
        self, messages: Sequence[Message], *, max_tokens: int, temperature: float = 0.0, on_text: OnText | None = None
    ) -> Generation:
        """Continue the chat by at most `max_tokens` tokens; a temperature of 0 is greedy decoding."""
        ...
