"""Which ANN index a datastore has, with every parameter that its bytes depend on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from datastore.config import IndexConfig
from datastore.errors import InvalidArgument

IndexKind = Literal["flat", "ivf-pq"]

FLAT_MAX_PASSAGES = 131_072
"""Up to here `auto` scans everything: an exact answer in a few milliseconds of one core."""

MIN_TRAIN_PER_LIST = 39
"""FAISS's own floor of training vectors for each centroid."""


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """Kind and parameters of the index that all segments of a datastore share; scores are inner products."""

    kind: IndexKind
    dimension: int
    nlist: int = 0
    """Inverted lists; 0 for flat."""
    pq_m: int = 0
    """8-bit sub-quantizers, so also bytes of a code; 0 for flat."""
    train_vectors: int = 0
    seed: int = 0
    reason: str = ""
    """Why this kind, for people."""

    @property
    def default_nprobe(self) -> int:
        """Lists read when a request does not say: a sixteenth of them, at least 16."""
        return min(self.nlist, max(16, self.nlist // 16))

    def describe(self) -> str:
        return "flat" if self.kind == "flat" else f"ivf-pq (nlist {self.nlist}, {self.pq_m} bytes a code)"


def check_index(config: IndexConfig, dimension: int) -> None:
    """Raise InvalidArgument unless `config` fits the dimension: what can be known before the passages are counted."""
    if config.kind != "flat" and config.pq_m is not None and dimension % config.pq_m:
        raise InvalidArgument(
            f"index.pq_m is {config.pq_m}; it must divide the encoder's dimension {dimension}",
            mend=f"use {_largest_divisor(dimension, config.pq_m)}",
            field="index.pq_m",
        )


def choose_index(config: IndexConfig, passages: int, dimension: int) -> IndexSpec:
    """Resolve `config` for a datastore of this size.

    Raises:
        InvalidArgument: the parameters do not fit the dimension or the number of passages.
    """
    check_index(config, dimension)
    if config.kind == "flat":
        return IndexSpec("flat", dimension, reason="asked for")
    if config.kind == "auto" and passages <= FLAT_MAX_PASSAGES:
        return IndexSpec(
            "flat", dimension, reason=f"{passages} passages are at most {FLAT_MAX_PASSAGES}: scanned whole"
        )
    reason = "asked for" if config.kind == "ivf-pq" else f"{passages} passages are more than {FLAT_MAX_PASSAGES}"
    wanted = 1 << round(math.log2(4 * math.sqrt(max(passages, 1))))
    nlist = config.nlist or max(1, min(wanted, passages // MIN_TRAIN_PER_LIST))
    train = min(passages, max(config.train_vectors, nlist * MIN_TRAIN_PER_LIST))
    if nlist > train:
        raise InvalidArgument(
            f"nlist is {nlist} for {train} training vectors; each list needs at least one",
            mend="lower index.nlist, or use the flat index for so few passages",
            field="index.nlist",
        )
    if train < 256:
        raise InvalidArgument(
            f"{passages} passages cannot train an ivf-pq index; it needs at least 256",
            mend="use --index flat, or auto",
            field="index.kind",
        )
    pq_m = config.pq_m or _largest_divisor(dimension, max(1, dimension // 6))
    return IndexSpec("ivf-pq", dimension, nlist, pq_m, train, config.seed, reason)


def _largest_divisor(number: int, limit: int) -> int:
    return next(divisor for divisor in range(min(limit, number), 0, -1) if number % divisor == 0)
