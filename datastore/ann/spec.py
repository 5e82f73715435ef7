"""Which ANN index a datastore has, with every parameter that its bytes depend on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from datastore.ann.memory import within_memory
from datastore.config import IndexConfig
from datastore.errors import InvalidArgument

IndexKind = Literal["flat", "ivf-pq", "ivf-pq4", "ivf-rabitq"]

CODES_NAMES = ("ann.faiss", "ann.lists")
"""Of a segment's codes of any kind."""

TEMPLATE_NAMES = ("template.faiss", "template.npz")
"""Of the trained part of any kind."""

FLAT_MAX_PASSAGES = 131_072
"""Up to here `auto` scans everything: an exact answer in a few milliseconds of one core."""

MIN_TRAIN_PER_LIST = 39
"""FAISS's own floor of training vectors for each centroid."""

_LISTS = {"ivf-pq": 4.0, "ivf-pq4": 8.0, "ivf-rabitq": 8.0}
"""Lists by kind, as a multiple of the square root of the passages."""

_PQ4_MIN = 16
"""Dimensions below which 4-bit codes of two each have nothing to choose from, and signs say little."""

_LEAST_TRAINED = 256
"""Passages that train codes of eight bits, and below which lists make no sense."""

SPILL_WEIGHT = 1.5
"""How much a second list must differ in direction from the first: from 1 to 3 recall is flat (bench/results)."""


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """Kind and parameters of the index that all segments of a datastore share; scores are inner products."""

    kind: IndexKind
    dimension: int
    nlist: int = 0
    """Inverted lists; 0 for flat."""
    pq_m: int = 0
    """Sub-quantizers of a code, of 8 bits for ivf-pq and of 4 bits for ivf-pq4; 0 for flat."""
    train_vectors: int = 0
    seed: int = 0
    reason: str = ""
    """Why this kind, for people."""
    copies: int = 1
    """Lists that a passage is in."""
    spill_weight: float = 0.0
    """Of the second list (see `datastore.ann.clustering.assign`)."""
    bits: int = 0
    """Of each dimension, for ivf-rabitq; 0 for other kinds."""

    @property
    def default_nprobe(self) -> int:
        """Lists read when a request does not say: a share of them that with the default depth gives a recall@10 of
        about 0.95 on text embeddings."""
        if self.copies == 2:
            return min(self.nlist, max(16, self.nlist // 200))
        return min(self.nlist, max(16, self.nlist // 16))

    @property
    def code_bytes(self) -> int:
        """Of one code."""
        if self.kind == "ivf-rabitq":
            return rabitq_code_bytes(self.rotated_dimension, self.bits)
        return self.pq_m // 2 if self.kind == "ivf-pq4" else self.pq_m

    @property
    def rotated_dimension(self) -> int:
        """Of ivf-rabitq: whole bytes of signs."""
        return -(-self.dimension // 8) * 8

    @property
    def required_features(self) -> tuple[str, ...]:
        """What a reader of format 1 must know beside it."""
        return (self.kind,) if self.kind in ("ivf-pq4", "ivf-rabitq") else ()

    @property
    def template_name(self) -> str:
        """Of the template's file."""
        return "template.npz" if self.kind in ("ivf-pq4", "ivf-rabitq") else "template.faiss"

    @property
    def codes_name(self) -> str:
        """Of the file of a segment's codes."""
        return "ann.lists" if self.kind in ("ivf-pq4", "ivf-rabitq") else "ann.faiss"

    def describe(self) -> str:
        if self.kind == "flat":
            return "flat"
        twice = ", each passage in 2 lists" if self.copies == 2 else ""
        return f"{self.kind} (nlist {self.nlist}, {self.code_bytes} bytes a code{twice})"


def check_index(config: IndexConfig, dimension: int) -> None:
    """Raise InvalidArgument unless `config` fits the dimension: what can be known before the passages are counted."""
    if config.kind in ("ivf-pq4", "ivf-rabitq") and dimension < _PQ4_MIN:
        raise InvalidArgument(
            f"the encoder's dimension is {dimension}; {config.kind} needs at least {_PQ4_MIN}",
            mend="use --index flat or ivf-pq",
            field="index.kind",
        )
    if config.pq_m is None or config.kind in ("flat", "ivf-rabitq"):
        return
    if config.kind == "ivf-pq" and dimension % config.pq_m:
        raise InvalidArgument(
            f"index.pq_m is {config.pq_m}; it must divide the encoder's dimension {dimension}",
            mend=f"use {_largest_divisor(dimension, config.pq_m)}",
            field="index.pq_m",
        )
    if config.kind != "ivf-pq" and (config.pq_m % 2 or 2 * config.pq_m > dimension):
        raise InvalidArgument(
            f"index.pq_m is {config.pq_m}; for ivf-pq4 it must be even and at most half of the encoder's dimension "
            f"{dimension}",
            mend=f"use {_default_pq4_m(dimension)}",
            field="index.pq_m",
        )


def choose_index(config: IndexConfig, passages: int, dimension: int) -> IndexSpec:
    """Resolve `config` for a datastore of this size: the best of what it leaves open that its memory allows.

    Raises:
        InvalidArgument: the parameters do not fit the dimension or the number of passages.
    """
    check_index(config, dimension)
    if config.kind == "flat":
        return within_memory([IndexSpec("flat", dimension, reason="asked for")], passages, config.memory)
    ladder: list[IndexSpec] = []
    if config.kind == "auto" and passages <= FLAT_MAX_PASSAGES:
        reason = f"{passages} passages are at most {FLAT_MAX_PASSAGES}: scanned whole"
        ladder.append(IndexSpec("flat", dimension, reason=reason))
        if config.memory is None or passages < _LEAST_TRAINED:
            return within_memory(ladder, passages, config.memory)
    kind: IndexKind = config.kind if config.kind != "auto" else "ivf-pq4" if dimension >= _PQ4_MIN else "ivf-pq"
    reason = "asked for" if config.kind != "auto" else f"{passages} passages are more than {FLAT_MAX_PASSAGES}"
    nlist, train = _lists(config, kind, passages)
    lists = IndexSpec(kind, dimension, nlist, train_vectors=train, seed=config.seed, reason=reason)
    return within_memory([*ladder, *_codes(config, lists)], passages, config.memory)


def _lists(config: IndexConfig, kind: IndexKind, passages: int) -> tuple[int, int]:
    """(lists, training vectors)."""
    wanted = 1 << round(math.log2(_LISTS[kind] * math.sqrt(max(passages, 1))))
    nlist = config.nlist or max(1, min(wanted, passages // MIN_TRAIN_PER_LIST))
    train = min(passages, max(config.train_vectors, nlist * MIN_TRAIN_PER_LIST))
    if nlist > train:
        raise InvalidArgument(
            f"nlist is {nlist} for {train} training vectors; each list needs at least one",
            mend="lower index.nlist, or use the flat index for so few passages",
            field="index.nlist",
        )
    if train < _LEAST_TRAINED:
        raise InvalidArgument(
            f"{passages} passages cannot train an {kind} index; it needs at least {_LEAST_TRAINED}",
            mend="use --index flat, or auto",
            field="index.kind",
        )
    return nlist, train


def _codes(config: IndexConfig, lists: IndexSpec) -> list[IndexSpec]:
    """`lists` with the codes that `config` leaves open, best first, which is the longest first.

    Shorter codes in two lists find more than longer ones in one (bench/results/ann-codes.md).
    """
    if lists.kind == "ivf-pq":
        pq_m = config.pq_m or _largest_divisor(lists.dimension, max(1, lists.dimension // 6))
        return [replace(lists, pq_m=pq_m)]
    copies = [config.copies] if config.copies else [2, 1]
    weighed = [replace(lists, copies=count, spill_weight=SPILL_WEIGHT if count == 2 else 0.0) for count in copies]
    if lists.kind == "ivf-rabitq":
        return [replace(spec, bits=config.bits) for spec in weighed]
    lengths = [config.pq_m] if config.pq_m else _pq4_lengths(lists.dimension)
    return [replace(spec, pq_m=pq_m) for spec in weighed for pq_m in lengths]


def rabitq_code_bytes(rotated: int, bits: int) -> int:
    """Signs and two floats; or signs, three floats, the further bits and two floats more."""
    if bits == 1:
        return rotated // 8 + 8
    return rotated // 8 + 12 + rotated * (bits - 1) // 8 + 8


def _pq4_lengths(dimension: int) -> list[int]:
    """Sub-quantizers: the default, and what is left of it for less memory; below two thirds, recall falls steeply."""
    most = _default_pq4_m(dimension)
    return sorted({max(2, most * sixths // 12 * 2) for sixths in (6, 5, 4)}, reverse=True)


def _default_pq4_m(dimension: int) -> int:
    """Three bits for two dimensions: sub-quantizers of two dimensions each, over three quarters of a rotation."""
    return max(2, 3 * dimension // 16 * 2)


def _largest_divisor(number: int, limit: int) -> int:
    return next(divisor for divisor in range(min(limit, number), 0, -1) if number % divisor == 0)
