"""Encoders by name: from `--encoder`, and from the fingerprint in a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from datastore.config import EncoderConfig
from datastore.devices import AUTO, DeviceChoice
from datastore.encoders.fingerprint import EncoderFingerprint
from datastore.errors import InvalidArgument


class Encoder(Protocol):
    """Texts to vectors; thread-safe. A text's vector does not depend on the texts around it, up to float rounding."""

    @property
    def fingerprint(self) -> EncoderFingerprint: ...

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 [len(texts), dimension]."""
        ...

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 [len(texts), dimension]."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Length of each text in the encoder's own tokens, before anything is cut off."""
        ...


def _open_embedded(config: EncoderConfig, device: DeviceChoice) -> Encoder:
    from datastore.encoders.sentence_transformer import SentenceTransformerEncoder, embedded_model_folder

    return SentenceTransformerEncoder(config, str(embedded_model_folder()), device)


def _open_hashing(config: EncoderConfig, device: DeviceChoice) -> Encoder:
    from datastore.encoders.hashing import HashingEncoder

    if config.query_prompt or config.passage_prompt or not config.normalize:
        raise InvalidArgument(
            "the hashing encoder was given a prompt, or normalize = false; it has no such settings",
            mend="leave them out, or choose another encoder",
            field="encoder",
        )
    return HashingEncoder()


def _open_wordllama(config: EncoderConfig, device: DeviceChoice) -> Encoder:
    from datastore.encoders.wordllama import WordLlamaEncoder

    return WordLlamaEncoder(config)


ENCODERS: dict[str, Callable[[EncoderConfig, DeviceChoice], Encoder]] = {
    "all-minilm-l6-v2": _open_embedded,
    "hashing": _open_hashing,
    "wordllama-256": _open_wordllama,
}
"""Name -> how to open it. Any other name with a `/`, or that is a folder, is a sentence-transformers model."""


def open_encoder(config: EncoderConfig, device: DeviceChoice = AUTO) -> Encoder:
    """The encoder that `config` names, with its model loaded.

    Args:
        device: where a model computes; encoders without one take no notice. Of several, the first.

    Raises:
        FailedPrecondition: a device that was asked for is not there.
        InvalidArgument: no encoder has that name.
        NotFound: the model is not at that path, or the hub does not have it or cannot be reached.
    """
    if config.name in ENCODERS:
        return ENCODERS[config.name](config, device)
    folder = Path(config.name)
    if "/" in config.name or folder.is_dir():
        from datastore.encoders.sentence_transformer import SentenceTransformerEncoder

        # A store is searched from other folders than it was built in.
        named = replace(config, name=str(folder.resolve())) if folder.is_dir() else config
        return SentenceTransformerEncoder(named, named.name, device)
    raise InvalidArgument(
        f"no encoder is called {config.name!r}; there are {', '.join(sorted(ENCODERS))}",
        mend="use one of those, a model's hub name (with its owner: owner/model) or the path of a model's folder",
        field="encoder",
    )


def open_query_encoder(wanted: EncoderFingerprint, name: str | None = None, device: DeviceChoice = AUTO) -> Encoder:
    """The encoder that a store was built with, or the one called `name` if it is the same.

    Raises:
        FailedPrecondition: the encoder opened differs from `wanted`.
    """
    encoder = open_encoder(replace(settings_of(wanted), name=name or wanted.name), device)
    wanted.require_same(encoder.fingerprint, "the encoder")
    return encoder


def settings_of(fingerprint: EncoderFingerprint) -> EncoderConfig:
    """With which settings `open_encoder` gives the encoder of a fingerprint."""
    return EncoderConfig(
        name=fingerprint.name,
        revision=fingerprint.revision if _is_commit(fingerprint.revision) else None,
        query_prompt=fingerprint.query_prompt,
        passage_prompt=fingerprint.passage_prompt,
        normalize=fingerprint.normalized,
    )


def _is_commit(revision: str) -> bool:
    """Whether a revision is a hub commit; other models are told apart by a hash of their files."""
    return len(revision) == 40 and not revision.strip("0123456789abcdef")
