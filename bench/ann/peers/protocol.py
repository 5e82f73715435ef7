"""What the harness asks of an engine. Adapters import nothing but numpy and their own engine, and that when it is used:
they run in an environment where Pergamon is not installed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Params = Mapping[str, Any]
"""Of a build or of a query, as JSON has them."""


class Engine(Protocol):
    """One engine. A process builds an index, or opens one and searches it; results are ids of rows, best first."""

    @property
    def packages(self) -> Sequence[str]:
        """Distributions whose versions belong into the report."""
        ...

    def build_params(self, rows: int, dimension: int) -> Params:
        """How it is built when nothing else is said."""
        ...

    def sweep(self, rows: int) -> list[Params]:
        """Query parameters from fast to thorough."""
        ...

    def build(self, vectors: Path, folder: Path, params: Params) -> None:
        """Index the rows of a `.npy` file, float16 [n, dimension] of about unit length, by inner product; everything
        that a search needs is left in `folder`, and `vectors` is not read again."""
        ...

    def open(self, folder: Path) -> None: ...

    def search_one(self, query: NDArray[np.float32], k: int, params: Params) -> NDArray[np.int64]:
        """int64 [k]; -1 beyond what was found."""
        ...

    def search_batch(self, queries: NDArray[np.float32], k: int, params: Params) -> NDArray[np.int64]:
        """int64 [queries, k], the fastest way that the engine has."""
        ...


def threads() -> int:
    """Cores that this process may use: the harness pins it."""
    return len(os.sched_getaffinity(0))


def padded(ids: Iterable[int], k: int) -> NDArray[np.int64]:
    """The first `k` ids, with -1 after the last."""
    found = np.fromiter(ids, np.int64)[:k]
    return np.pad(found, (0, k - len(found)), constant_values=-1)


def load_float32(vectors: Path) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = np.load(vectors).astype(np.float32)
    return rows
