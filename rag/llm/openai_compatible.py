"""Language models behind an OpenAI-compatible endpoint (`POST /chat/completions`, streamed), through `openai`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import openai

from datastore.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PergamonError,
    ResourceExhausted,
    Unavailable,
)
from rag.llm.api import FinishReason, Generation, Message, OnText

ASSUMED_CONTEXT_TOKENS = 16_384
"""Where the server does not say. As prompts are counted in bytes (see `count_tokens`), one that fills this has about
4,000 tokens of English."""

MESSAGE_OVERHEAD_TOKENS = 16
"""What a chat template may add around a message, and once more for the whole: role, separators, begin and end."""

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 120.0
"""Between two pieces of an answer, and before the first: a CPU may read a long prompt for a minute."""
TOTAL_TIMEOUT_S = 600.0
MAX_RETRIES = 1
"""Of a request that failed to connect, timed out, or was answered 408, 409, 429 or 5xx; with the package's back-off."""

MAX_SHOWN_CHARACTERS = 200


class OpenAICompatibleModel:
    """A chat model at `base_url` (None: what OPENAI_BASE_URL names, else OpenAI itself).

    The key is OPENAI_API_KEY of the environment; servers that want none are sent a placeholder. With `model` None the
    server is asked at once which it has, and its first is taken, with its context length where it says that.

    Raises:
        InvalidArgument: the address is none, or the server refuses a value.
        FailedPrecondition: no key, or not one that the server takes; NotFound: no such model or path.
        Unavailable, DeadlineExceeded, ResourceExhausted: it cannot be reached, takes too long, is too busy.
    """

    def __init__(
        self,
        *,
        base_url: str | None,
        model: str | None,
        context_tokens: int | None = None,
        read_timeout_s: float = READ_TIMEOUT_S,
        total_timeout_s: float = TOTAL_TIMEOUT_S,
        max_retries: int = MAX_RETRIES,
    ) -> None:
        key = os.environ.get("OPENAI_API_KEY") or None
        if base_url is None and key is None and not os.environ.get("OPENAI_BASE_URL"):
            raise FailedPrecondition(
                "OPENAI_API_KEY is not set; OpenAI wants a key", mend="export OPENAI_API_KEY=…", field="llm"
            )
        url = base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        self._address = _checked_address(url)
        self._secret = key
        self._total_timeout_s = total_timeout_s
        self._client = openai.OpenAI(
            api_key=key or "none",
            base_url=url,
            timeout=openai.Timeout(read_timeout_s, connect=CONNECT_TIMEOUT_S),
            max_retries=max_retries,
        )
        self._name, said = (model, None) if model else self._discover()
        self._context_tokens = context_tokens or said or ASSUMED_CONTEXT_TOKENS

    @property
    def name(self) -> str:
        return self._name

    @property
    def context_tokens(self) -> int:
        return self._context_tokens

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """A bound: the UTF-8 bytes of the text, and MESSAGE_OVERHEAD_TOKENS for each message and for the whole.

        The tokenizer lies with the server. Byte-level BPE and SentencePiece with byte fallback, which all current chat
        models use, spend at most one token a byte; English takes about a quarter of that.
        """
        text = sum(len(message.content.encode("utf-8", "replace")) for message in messages)
        return text + MESSAGE_OVERHEAD_TOKENS * (len(messages) + 1)

    def generate(
        self, messages: Sequence[Message], *, max_tokens: int, temperature: float = 0.0, on_text: OnText | None = None
    ) -> Generation:
        request: dict[str, Any] = {
            "model": self._name,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        pieces: list[str] = []
        finish_reason: str | None = None
        usage: Any = None
        for text, reason, said in self._stream(request):
            finish_reason = reason or finish_reason
            usage = said or usage
            if text:
                pieces.append(text)
                if on_text:
                    on_text(text)
        if finish_reason is None:
            raise self._protocol_error("its answer stopped before the end")
        return Generation(
            "".join(pieces),
            _count(usage, "prompt_tokens"),
            _count(usage, "completion_tokens"),
            _FINISH_REASONS.get(finish_reason, "other"),
        )

    def _start(self, request: dict[str, Any]) -> Any:
        """The answer's stream, asked for again without an option that the server refuses by name.

        OpenAI's reasoning models take `max_completion_tokens` for `max_tokens`, and no temperature but their own; some
        servers know no `stream_options`.
        """
        while True:
            try:
                return self._client.chat.completions.create(**request)
            except openai.BadRequestError as error:
                refused = error.param
                if refused not in ("max_tokens", "temperature", "stream_options") or refused not in request:
                    raise
                value = request.pop(refused)
                if refused == "max_tokens":
                    request["max_completion_tokens"] = value

    def _stream(self, request: dict[str, Any]) -> Iterator[tuple[str | None, str | None, Any]]:
        """(text, finish reason, usage) as the answer comes; each is mostly None."""
        deadline = time.monotonic() + self._total_timeout_s
        with self._errors(), self._start(request) as stream:
            for chunk in stream:
                if time.monotonic() > deadline:
                    raise DeadlineExceeded(
                        f"{self._address} had not ended its answer after {self._total_timeout_s:g} s",
                        mend="ask for a shorter answer, or use a faster server",
                        field="llm",
                    )
                for choice in chunk.choices or []:
                    content = choice.delta.content
                    yield content if isinstance(content, str) else None, choice.finish_reason, None
                if chunk.usage:
                    yield None, None, chunk.usage

    def _discover(self) -> tuple[str, int | None]:
        """(name, context length or None) of the first model that the server lists."""
        with self._errors():
            for model in self._client.models.list():
                return str(model.id), _count(model, "max_model_len")
        raise FailedPrecondition(
            f"{self._address} lists no model", mend=f"name one: {self._address}#MODEL", field="llm"
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what the package raises into `datastore.errors`: one line each, without the key."""
        try:
            yield
        except openai.APITimeoutError as error:
            raise DeadlineExceeded(
                f"{self._address} did not answer in time", mend="see whether the server is overloaded", field="llm"
            ) from error
        except openai.APIConnectionError as error:
            cause = self._shown(str(error.__cause__ or error))
            raise Unavailable(
                f"no language model answers at {self._address}: {cause}",
                mend="check the address and that the server runs; it usually ends in /v1",
                field="llm",
            ) from error
        except openai.APIStatusError as error:
            raise self._status_error(error) from error
        except openai.OpenAIError as error:  # what a server reports within a stream, and invalid bodies
            raise Unavailable(
                f"{self._address} failed to answer: {self._shown(str(error))}", mend="see the server's log", field="llm"
            ) from error
        except (ValueError, AttributeError, TypeError) as error:  # the package does not check what it parses
            raise self._protocol_error(self._shown(str(error))) from error

    def _status_error(self, error: openai.APIStatusError) -> PergamonError:
        body = error.body
        detail = body.get("message") if isinstance(body, dict) else error.response.text
        said = f"{self._address} answered {error.status_code}: {self._shown(str(detail or error.message))}"
        match error.status_code:
            case 401 | 403:
                return FailedPrecondition(
                    f"{self._address} answered {error.status_code}: it does not take the key",
                    mend="export OPENAI_API_KEY with a valid key",
                    field="llm",
                )
            case 404:
                return NotFound(
                    said,
                    mend=f"check the model's name and the path: {self._address}#MODEL",
                    field="llm",
                )
            case 429:
                return ResourceExhausted(said, mend="wait, or raise the account's limits", field="llm")
            case status if status < 500:
                return InvalidArgument(
                    said,
                    mend="lower the token budget if the prompt was too long; see the server's documentation",
                    field="llm",
                )
        return Unavailable(said, mend="see the server's log", field="llm")

    def _protocol_error(self, reason: str) -> PergamonError:
        return Unavailable(
            f"{self._address} does not answer as an OpenAI-compatible server: {reason}",
            mend="check the address and that the server runs; it usually ends in /v1",
            field="llm",
        )

    def _shown(self, text: str) -> str:
        """`text` as an error may show it: in one line, not long, without the key."""
        if self._secret:
            text = text.replace(self._secret, "***")
        line = " ".join(text.split())
        return line if len(line) <= MAX_SHOWN_CHARACTERS else line[: MAX_SHOWN_CHARACTERS - 1] + "…"


_FINISH_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}


def _count(holder: Any, name: str) -> int | None:
    value = getattr(holder, name, None)
    return value if isinstance(value, int) else None


def _checked_address(url: str) -> str:
    """The address as errors may show it, without user and password; InvalidArgument if it names no host and port."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme not in ("http", "https"):
        raise InvalidArgument(
            f"the language model's address is {url!r}; wanted http(s)://host:port/v1",
            mend="check the address",
            field="llm",
        )
    shown_host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown_host}{f':{port}' if port else ''}{parts.path}"
