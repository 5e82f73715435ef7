"""WordLlama's static embeddings (256 dimensions, MIT): a table of token vectors, averaged over a text.

Thousands of passages a second on one core, where a transformer does tens: for benchmarks with millions of vectors of
real text. Its quality is well below the default's. The wheel `wordllama` is an optional extra, `bench`; its model files
are read here directly, since its code looks for its tokenizer in a folder that the wheel does not have, and sets up the
logging of the whole process when it is imported.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from datastore.config import EncoderConfig
from datastore.encoders.fingerprint import EncoderFingerprint
from datastore.errors import NotFound
from datastore.store.checksums import hash_file

_PACKAGE = "wordllama"
_WEIGHTS = "weights/l2_supercat_256.safetensors"
_TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
_TEXTS_AT_ONCE = 1024


def wordllama_folder() -> Path:
    """Where the wheel keeps its model."""
    spec = importlib.util.find_spec(_PACKAGE)
    folder = Path(spec.origin).parent if spec is not None and spec.origin else None
    if folder is None or not all((folder / name).is_file() for name in (_WEIGHTS, _TOKENIZER)):
        raise NotFound(
            f"the encoder wordllama-256 needs the package {_PACKAGE} with {_WEIGHTS} and {_TOKENIZER}; there is none",
            mend="pip install wordllama==0.4.0.post1, or name another encoder with --encoder",
        )
    return folder


class WordLlamaEncoder:
    """Implements `datastore.encoders.registry.Encoder`."""

    def __init__(self, config: EncoderConfig) -> None:
        folder = wordllama_folder()
        (table,) = load_file(folder / _WEIGHTS).values()
        self._table = np.ascontiguousarray(table, np.float32)
        self._tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        digests = "".join(hash_file(folder / name) for name in (_WEIGHTS, _TOKENIZER))
        self.fingerprint = EncoderFingerprint(
            name=config.name,
            revision=f"xxh3:{xxhash.xxh3_128_hexdigest(digests.encode())}",
            dimension=self._table.shape[1],
            pooling="mean",
            normalized=config.normalize,
            query_prompt=config.query_prompt or "",
            passage_prompt=config.passage_prompt or "",
            max_tokens=0,
        )

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encode(texts, self.fingerprint.query_prompt)

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encode(texts, self.fingerprint.passage_prompt)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(tokens) for tokens in self._tokens(texts)]

    def _encode(self, texts: Sequence[str], prompt: str) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), self.fingerprint.dimension), np.float32)
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            chunk = [prompt + text for text in texts[start : start + _TEXTS_AT_ONCE]]
            for vector, tokens in zip(vectors[start:], self._tokens(chunk), strict=False):
                if tokens:
                    self._table[tokens].mean(axis=0, out=vector)
        if self.fingerprint.normalized:
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            np.divide(vectors, lengths, out=vectors, where=lengths > 0)
        return vectors

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        # A lone surrogate, which no tokenizer takes, becomes a question mark.
        encodable = [text if text.isascii() else text.encode(errors="replace").decode() for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(encodable, add_special_tokens=False)]
