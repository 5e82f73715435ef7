"""Opening a language model by what the user calls it."""

from __future__ import annotations

from pathlib import Path

from datastore.devices import AUTO, DeviceChoice
from datastore.errors import InvalidArgument
from rag.llm.api import LanguageModel

DEFAULT_MODEL = "local"

CHOICES = {
    DEFAULT_MODEL: "SmolLM2-135M-Instruct, in this process",
    "hf:NAME": "a chat model of the Hugging Face hub, in this process",
    "PATH": "a .gguf file or a folder that transformers saved, in this process",
    "http(s)://HOST:PORT/v1[#MODEL]": "any OpenAI-compatible endpoint",
    "openai:MODEL": "OpenAI itself, or what OPENAI_BASE_URL names",
}


def open_language_model(name: str = DEFAULT_MODEL, device: DeviceChoice = AUTO) -> LanguageModel:
    """The model of that name, path or address (see CHOICES). Local weights load at first use, on `device`.

    Raises:
        InvalidArgument: no model is called that.
        NotFound, Unavailable, FailedPrecondition: it cannot be had.
    """
    if name == DEFAULT_MODEL:
        from rag.llm.local import LocalModel, bundled_gguf

        path = bundled_gguf()
        return LocalModel(path, name=path.stem, device=device)
    if name.startswith(("http://", "https://")):
        from rag.llm.openai_compatible import OpenAICompatibleModel

        base_url, _, model = name.partition("#")
        return OpenAICompatibleModel(base_url=base_url, model=model or None)
    scheme, _, rest = name.partition(":")
    if scheme == "openai" and rest:
        from rag.llm.openai_compatible import OpenAICompatibleModel

        return OpenAICompatibleModel(base_url=None, model=rest)
    if scheme == "hf" and rest:
        from rag.llm.local import LocalModel

        return LocalModel(rest, name=rest, hub=True, device=device)
    path = Path(name).expanduser()
    if name and (path.is_dir() or (path.is_file() and path.suffix == ".gguf")):
        from rag.llm.local import LocalModel

        return LocalModel(path, name=path.stem if path.is_file() else path.resolve().name, device=device)
    raise InvalidArgument(
        f"no language model is called {name!r}; wanted one of {', '.join(CHOICES)}",
        mend=f"{DEFAULT_MODEL} needs nothing else; check the spelling of a path",
        field="llm",
    )
