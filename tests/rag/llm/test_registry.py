from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from datastore.errors import FailedPrecondition, InvalidArgument, Unavailable
from rag.llm.registry import CHOICES, open_language_model


def test_the_default_is_the_bundled_model() -> None:
    assert open_language_model().name == open_language_model("local").name == "SmolLM2-135M-Instruct.Q4_1"


def test_a_path_names_a_model(tiny_gguf: Path, tmp_path: Path) -> None:
    assert open_language_model(str(tiny_gguf)).name == "tiny"
    assert open_language_model(str(tmp_path)).name == tmp_path.name


def test_openai_models_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert open_language_model("openai:gpt-any").name == "gpt-any"


def test_openai_wants_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(FailedPrecondition, match="OPENAI_API_KEY is not set"):
        open_language_model("openai:gpt-any")


@pytest.mark.parametrize(
    "name", ["", "gpt", "Local", "openai:", "hf:", "no/such/model.gguf", "localhost:8000", "ftp://x/v1"]
)
def test_an_unknown_name_lists_the_choices(name: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        open_language_model(name)
    assert all(choice in str(error.value) for choice in CHOICES)
    assert repr(name) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "address", ["http://", "http://:80/v1", "http://host:port/v1", "http://host:99999/v1", "http://[::1"]
)
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(InvalidArgument, match=r"wanted http\(s\)://host:port/v1"):
        open_language_model(address)


def test_a_refused_connection() -> None:
    with pytest.raises(Unavailable, match=r"no language model answers at http://127\.0\.0\.1:9/v1: .*refused"):
        open_language_model("http://127.0.0.1:9/v1")


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = "import sys, rag.answer, rag.llm.registry; print({'torch', 'transformers', 'openai'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
