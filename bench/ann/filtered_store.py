"""A datastore of a dataset's vectors, with attributes to filter by: built as any other, but for its encoder.

Attributes of each passage:

- `uniform`: a float in [0, 1), at random. `uniform < 0.01` leaves one passage in a hundred, wherever it lies.
- `region_0`, `region_1`: the share of passages that are nearer to an anchor, which is one of the vectors. A filter
  `region_0 < 0.01` leaves one region of the space: the hard case for a query elsewhere, whose nearest lists hold none.
- `source`: one of 100, at random; `year`: 1990 to 2024.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.ann.dataset import Dataset
from datastore.build import build
from datastore.config import load_config
from datastore.encoders.fingerprint import EncoderFingerprint
from datastore.store.manifest import MANIFEST_NAME
from datastore.tasks.progress import BuildProgress

REGIONS = 2
SOURCES = 100
_BLOCK = 65_536
_WORD = "row"


class StoredVectors:
    """Implements `datastore.encoders.registry.Encoder`: the vector of the text `row 17` is the dataset's 17th."""

    def __init__(self, dataset: Dataset) -> None:
        self._base = dataset.base
        known = dataset.about.get("encoder", {})
        lengths = np.linalg.norm(self._base[:_BLOCK].astype(np.float32), axis=1)
        plain = EncoderFingerprint(
            name="vectors",
            revision="1",
            dimension=int(self._base.shape[1]),
            pooling="none",
            normalized=bool(np.abs(lengths - 1).max(initial=0) < 1e-2),
            query_prompt="",
            passage_prompt="",
            max_tokens=0,
        )
        same = set(known) == {field.name for field in fields(EncoderFingerprint)}
        self.fingerprint = EncoderFingerprint(**known) if same else plain

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._base[[int(text.removeprefix(_WORD)) for text in texts]].astype(np.float32)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.encode_passages(texts)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [2] * len(texts)


def attributes(base: NDArray[np.float16], seed: int) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
    """By name, a value for each of float16 [n, dimension]; the sources as their numbers."""
    generator = np.random.default_rng(seed)
    found: dict[str, NDArray[np.float64] | NDArray[np.int64]] = {"uniform": generator.random(len(base))}
    found["source"] = generator.integers(SOURCES, size=len(base))
    found["year"] = generator.integers(1990, 2025, size=len(base))
    for number, anchor in enumerate(generator.choice(len(base), REGIONS, replace=False)):
        direction = base[anchor].astype(np.float32)
        blocks = range(0, len(base), _BLOCK)
        products = np.concatenate([base[at : at + _BLOCK].astype(np.float32) @ direction for at in blocks])
        shares = np.empty(len(base))
        shares[np.argsort(-products, kind="stable")] = np.arange(len(base)) / len(base)
        found[f"region_{number}"] = shares
    return found


def make_store(
    dataset: Dataset,
    store: Path,
    seed: int,
    kind: str,
    on_progress: Callable[[BuildProgress], None] = lambda _: None,
) -> None:
    """Build it in the folder `store`, unless one is there already: an earlier run's."""
    if (store / MANIFEST_NAME).exists():
        return
    store.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: values.tolist() for name, values in attributes(dataset.base, seed).items()}
    documents = store.parent / "documents.jsonl"
    with documents.open("w", encoding="utf-8") as lines:
        for row in range(len(dataset.base)):
            own = {name: values[row] for name, values in columns.items()}
            own["source"] = f"source-{own['source']:02}"
            lines.write(json.dumps({"id": str(row), "text": f"{_WORD} {row}", **own}) + "\n")
    settings: dict[str, dict[str, Any]] = {
        "chunk": {"words": 0},
        "index": {"kind": kind},
        "segment": {"passages": max(1, len(dataset.base))},
    }
    build([str(documents)], store, load_config(None, settings), on_progress, StoredVectors(dataset))
    documents.unlink()
