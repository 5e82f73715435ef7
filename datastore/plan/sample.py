"""What a datastore built of a sample says of one built of the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from datastore.errors import InvalidArgument
from datastore.info import describe_store

LEAST_PASSAGES = 1000
"""Of a sample: below, the files' own overhead counts for too much."""


@dataclass(frozen=True, slots=True)
class Sample:
    dimension: int
    tokens_per_passage: float
    constants: Mapping[str, float]
    """In the place of the planner's."""


def like_store(store: Path) -> Sample:
    """Bytes, words and tokens of its passages, from the manifest alone.

    Tokens are the store's encoder's.

    Raises:
        InvalidArgument: it is too small to say anything.
        Others: what `describe_store` raises.
    """
    info = describe_store(store)
    if info.passages < LEAST_PASSAGES or not info.words or not info.tokens:
        raise InvalidArgument(
            f"{store} has {info.passages} passages of {info.words} words; a sample needs {LEAST_PASSAGES} passages",
            mend="build the sample of more documents, chosen at random",
            field="like",
        )
    parts = info.bytes_by_part
    return Sample(
        dimension=info.encoder.dimension,
        tokens_per_passage=info.tokens / info.passages,
        constants={
            "tokens_per_word": info.tokens / info.words,
            "passage_word_bytes": 0.0,
            "passage_bytes": parts["passages"] / info.passages,
            "bm25_word_bytes": 0.0,
            "bm25_passage_bytes": parts["bm25"] / info.passages,
            "column_bytes": parts["columns"] / info.passages,
        },
    )
