"""The client against a server on loopback that speaks the protocol, well and badly."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from datastore.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PergamonError,
    ResourceExhausted,
    Unavailable,
)
from rag.llm.api import Message
from rag.llm.openai_compatible import ASSUMED_CONTEXT_TOKENS, OpenAICompatibleModel

KEY = "sk-test-0123456789abcdef"
MESSAGES = [Message("system", "Be brief."), Message("user", "Where is Oslo? 🙂")]


class Endpoint(ThreadingHTTPServer):
    """Behaves as the name of the model asked for says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, Any]] = []
        self.models: Any = {"object": "list", "data": [{"id": "echo", "object": "model", "max_model_len": 2048}]}
        self.failures_left = 0
        self.stopping = threading.Event()

    def handle_error(self, *_: Any) -> None:
        """Clients that give up on a bad answer are expected here."""

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Endpoint

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.headers["Authorization"] != f"Bearer {KEY}":
            return self.answer(401, {"error": {"message": f"Incorrect API key: {self.headers['Authorization']}"}})
        if self.path != "/v1/models":
            return self.answer(404, {"error": {"message": "no such path"}})
        return self.answer(200, self.server.models)

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(request)
        if self.path != "/v1/chat/completions":
            return self.answer(404, {"error": {"message": "no such path"}})
        if self.headers["Authorization"] != f"Bearer {KEY}":
            return self.answer(401, {"error": {"message": "Incorrect API key"}})
        behaviour = getattr(self, f"be_{request['model']}", None)
        if behaviour is None:
            return self.answer(404, {"error": {"message": f"The model {request['model']!r} does not exist"}})
        return behaviour(request)  # type: ignore[no-any-return]

    def answer(self, status: int, body: Any, content_type: str = "application/json") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, *events: Any, whole: bool = True) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events:
            self.event(event)
        if whole:
            self.event(b"data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True

    def event(self, event: Any) -> None:
        data = event if isinstance(event, bytes) else b"data: " + json.dumps(event).encode() + b"\n\n"
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    @staticmethod
    def piece(text: str | None = None, finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish_reason}
        return {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}

    def be_echo(self, request: dict[str, Any]) -> None:
        words = request["messages"][-1]["content"].split(" ")
        pieces = [self.piece(word + " ") for word in words[: request["max_tokens"]]]
        reason = "length" if len(words) > request["max_tokens"] else "stop"
        usage = {"prompt_tokens": 21, "completion_tokens": len(pieces), "total_tokens": 21 + len(pieces)}
        self.stream(
            {**self.piece(""), "usage": None},
            b": keep-alive\n\n",
            *pieces,
            self.piece(finish_reason=reason),
            {**self.piece(), "choices": [], "usage": usage},
        )

    def be_silent_about_usage(self, _: dict[str, Any]) -> None:
        self.stream(self.piece("yes"), self.piece(finish_reason="content_filter"))

    def be_reasoning(self, request: dict[str, Any]) -> None:
        for refused in ("max_tokens", "temperature", "stream_options"):
            if refused in request:
                error = {"message": f"Unsupported: {refused}", "type": "invalid_request_error", "param": refused}
                return self.answer(400, {"error": error})
        return self.stream(self.piece(str(request["max_completion_tokens"])), self.piece(finish_reason="stop"))

    def be_too_long(self, _: dict[str, Any]) -> None:
        self.answer(400, {"error": {"message": "maximum context length is 10 tokens", "param": "messages"}})

    def be_busy(self, _: dict[str, Any]) -> None:
        self.answer(429, {"error": {"message": f"rate limit of {KEY}"}})

    def be_failing(self, _: dict[str, Any]) -> None:
        self.answer(500, b"<html>\n<h1>oh no</h1>\n</html>", "text/html")

    def be_failing_at_first(self, request: dict[str, Any]) -> None:
        self.server.failures_left -= 1
        if self.server.failures_left >= 0:
            self.answer(503, {"error": {"message": "loading"}})
        else:
            self.be_echo(request)

    def be_html(self, _: dict[str, Any]) -> None:
        self.answer(200, b"<html>welcome</html>", "text/html")

    def be_plain_json(self, _: dict[str, Any]) -> None:
        self.answer(200, {"choices": [{"message": {"content": "hi"}}]})

    def be_not_json(self, _: dict[str, Any]) -> None:
        self.stream(self.piece("Os"), b"data: {oops\n\n")

    def be_other_json(self, _: dict[str, Any]) -> None:
        self.stream(["a", "list"])

    def be_odd_fields(self, _: dict[str, Any]) -> None:
        self.stream({"choices": None}, {"choices": [{"delta": None}]})

    def be_failing_midway(self, _: dict[str, Any]) -> None:
        self.stream(self.piece("Os"), {"error": {"message": "CUDA error"}})

    def be_cut_off(self, _: dict[str, Any]) -> None:
        self.stream(self.piece("Os"), whole=False)

    def be_unfinished(self, _: dict[str, Any]) -> None:
        self.stream(self.piece("Os"))

    def be_hanging(self, _: dict[str, Any]) -> None:
        self.server.stopping.wait(10)
        self.close_connection = True

    def be_hanging_midway(self, request: dict[str, Any]) -> None:
        self.stream(self.piece("Os"), whole=False)
        self.be_hanging(request)

    def be_endless(self, _: dict[str, Any]) -> None:
        self.stream(whole=False)
        while not self.server.stopping.wait(0.05):
            try:
                self.event(self.piece("and "))
            except OSError:
                return


@pytest.fixture(scope="module")
def server() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    thread = threading.Thread(target=endpoint.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield endpoint
    endpoint.stopping.set()
    endpoint.shutdown()
    thread.join()
    endpoint.server_close()


@pytest.fixture
def endpoint(server: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    server.requests.clear()
    return server


def connect(endpoint: Endpoint, model: str | None, **options: Any) -> OpenAICompatibleModel:
    return OpenAICompatibleModel(base_url=endpoint.base_url, model=model, **({"max_retries": 0} | options))


def test_an_answer_is_streamed_and_counted(endpoint: Endpoint) -> None:
    pieces: list[str] = []
    generation = connect(endpoint, "echo").generate(MESSAGES, max_tokens=50, on_text=pieces.append)
    assert generation.text == "Where is Oslo? 🙂 "
    assert pieces == ["Where ", "is ", "Oslo? ", "🙂 "]
    assert (generation.prompt_tokens, generation.completion_tokens, generation.finish_reason) == (21, 4, "stop")
    (request,) = endpoint.requests
    assert request["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (request["temperature"], request["max_tokens"], request["stream"]) == (0.0, 50, True)


def test_an_answer_may_be_cut_off_and_usage_unknown(endpoint: Endpoint) -> None:
    assert connect(endpoint, "echo").generate(MESSAGES, max_tokens=2).finish_reason == "length"
    generation = connect(endpoint, "silent_about_usage").generate(MESSAGES, max_tokens=2)
    assert (generation.text, generation.prompt_tokens, generation.finish_reason) == ("yes", None, "other")


def test_a_model_is_discovered(endpoint: Endpoint) -> None:
    model = connect(endpoint, None)
    assert (model.name, model.context_tokens) == ("echo", 2048)
    assert connect(endpoint, "echo").context_tokens == ASSUMED_CONTEXT_TOKENS


def test_the_base_url_may_come_from_the_environment(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.base_url)
    model = OpenAICompatibleModel(base_url=None, model="echo")
    assert model.generate(MESSAGES, max_tokens=1).text == "Where "


def test_options_that_a_server_refuses_are_left_out(endpoint: Endpoint) -> None:
    assert connect(endpoint, "reasoning").generate(MESSAGES, max_tokens=7).text == "7"
    assert [len(request) for request in endpoint.requests] == [6, 6, 5, 4]


def test_a_failing_server_is_asked_again(endpoint: Endpoint) -> None:
    endpoint.failures_left = 1
    assert connect(endpoint, "failing_at_first", max_retries=1).generate(MESSAGES, max_tokens=1).text == "Where "
    assert len(endpoint.requests) == 2


def test_the_count_is_a_bound() -> None:
    model = OpenAICompatibleModel(base_url="http://127.0.0.1:9/v1", model="any")
    assert model.count_tokens(MESSAGES) == 9 + 14 + 5 + 3 * 16


@pytest.mark.parametrize(
    ("behaviour", "error_class", "message"),
    [
        ("missing", NotFound, "answered 404: The model 'missing' does not exist"),
        ("too_long", InvalidArgument, "answered 400: maximum context length"),
        ("busy", ResourceExhausted, r"answered 429: rate limit of \*\*\*"),
        ("failing", Unavailable, "answered 500: <html> <h1>oh no</h1> </html>"),
        ("html", Unavailable, "does not answer as an OpenAI-compatible server"),
        ("plain_json", Unavailable, "does not answer as an OpenAI-compatible server"),
        ("not_json", Unavailable, "does not answer as an OpenAI-compatible server"),
        ("other_json", Unavailable, "does not answer as an OpenAI-compatible server"),
        ("odd_fields", Unavailable, "does not answer as an OpenAI-compatible server"),
        ("failing_midway", Unavailable, "failed to answer: CUDA error"),
        ("cut_off", Unavailable, "no language model answers at"),
        ("unfinished", Unavailable, "its answer stopped before the end"),
        ("hanging", DeadlineExceeded, "did not answer in time"),
        ("hanging_midway", DeadlineExceeded, "did not answer in time"),
        ("endless", DeadlineExceeded, "had not ended its answer after 0.5 s"),
    ],
)
def test_what_goes_wrong_is_one_line(
    endpoint: Endpoint, behaviour: str, error_class: type[PergamonError], message: str
) -> None:
    model = connect(endpoint, behaviour, read_timeout_s=0.3, total_timeout_s=0.5)
    started = time.monotonic()
    with pytest.raises(error_class, match=message) as error:
        model.generate(MESSAGES, max_tokens=5)
    assert type(error.value) is error_class
    assert time.monotonic() - started < 5
    line = str(error.value)
    assert "\n" not in line
    assert KEY not in line
    assert error.value.mend


def test_a_key_that_is_not_taken(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    for model in (None, "echo"):
        with pytest.raises(FailedPrecondition, match="answered 401: it does not take the key") as error:
            connect(endpoint, model).generate(MESSAGES, max_tokens=1)
        assert "sk-secret" not in str(error.value)


def test_a_wrong_path(endpoint: Endpoint) -> None:
    with pytest.raises(NotFound, match=r"answered 404: no such path"):
        OpenAICompatibleModel(base_url=endpoint.base_url.removesuffix("/v1"), model=None)


@pytest.mark.parametrize(
    ("models", "error_class"),
    [
        ({"object": "list", "data": []}, FailedPrecondition),
        ({"object": "list"}, FailedPrecondition),
        (["echo"], Unavailable),
        ({"data": ["echo"]}, Unavailable),
        ({"data": 3}, Unavailable),
        (b"<html></html>", Unavailable),
        (b"", Unavailable),
    ],
)
def test_a_list_of_models_that_is_none(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, models: Any, error_class: type[PergamonError]
) -> None:
    monkeypatch.setattr(endpoint, "models", models)
    with pytest.raises(error_class):
        connect(endpoint, None)


def test_user_and_password_of_an_address_are_not_shown() -> None:
    model = OpenAICompatibleModel(base_url="http://me:secret@127.0.0.1:9/v1", model="any", max_retries=0)
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:9/v1") as error:
        model.generate(MESSAGES, max_tokens=1)
    assert "secret" not in str(error.value)


def test_what_the_callers_callback_raises_is_the_callers(endpoint: Endpoint) -> None:
    def fail(_: str) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        connect(endpoint, "echo").generate(MESSAGES, max_tokens=3, on_text=fail)
