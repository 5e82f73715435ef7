from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datastore.ann.index import AnnIndex, Template, candidates, load_template, train_template
from datastore.ann.spec import IndexSpec
from datastore.store.vectors import VectorFile, VectorWriter

DIMENSION = 32
SPECS = {
    "flat": IndexSpec("flat", DIMENSION),
    "ivf-pq": IndexSpec("ivf-pq", DIMENSION, nlist=16, pq_m=8, train_vectors=2000, seed=7),
    "ivf-pq4": IndexSpec("ivf-pq4", DIMENSION, nlist=16, pq_m=12, train_vectors=2000, seed=7),
    "ivf-pq4 twice": IndexSpec(
        "ivf-pq4", DIMENSION, nlist=16, pq_m=12, train_vectors=2000, seed=7, copies=2, spill_weight=1.5
    ),
    "ivf-rabitq": IndexSpec("ivf-rabitq", DIMENSION, nlist=16, train_vectors=2000, seed=7, bits=1),
    "ivf-rabitq twice, 4 bits": IndexSpec(
        "ivf-rabitq", DIMENSION, nlist=16, train_vectors=2000, seed=7, copies=2, spill_weight=1.5, bits=4
    ),
}


def _write_vectors(path: Path, vectors: NDArray[np.float32]) -> VectorFile:
    writer = VectorWriter(path, vectors.shape[1])
    writer.add(vectors)
    writer.close()
    return VectorFile(path, *vectors.shape)


@dataclass(frozen=True)
class Built:
    """One kind of index over the same vectors: whole, and cut in three segments of unequal size."""

    spec: IndexSpec
    vectors: NDArray[np.float32]
    """As stored: float16 values."""
    folder: Path
    template: Template
    whole: AnnIndex
    parts: AnnIndex
    """Rows as if the segments were one."""

    def search(
        self, query: NDArray[np.float32], depth: int, nprobe: int = 16, accept: NDArray[np.uint8] | None = None
    ) -> NDArray[np.int64]:
        return candidates(self.whole, query[None], depth, nprobe, accept)[0]

    def search_parts(
        self, query: NDArray[np.float32], depth: int, nprobe: int = 16, accept: NDArray[np.uint8] | None = None
    ) -> NDArray[np.int64]:
        return candidates(self.parts, query[None], depth, nprobe, accept)[0]


@pytest.fixture(scope="session")
def vectors() -> NDArray[np.float32]:
    """Unit vectors around 40 directions, some of them twice, float16 values; 2,500 of them."""
    random = np.random.default_rng(3)
    centers = random.standard_normal((40, DIMENSION))
    drawn = centers[random.integers(40, size=2500)] + 0.6 * random.standard_normal((2500, DIMENSION))
    drawn[100:110] = drawn[90:100]
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn.astype(np.float16).astype(np.float32)


@pytest.fixture(scope="session")
def queries(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    random = np.random.default_rng(4)
    return (vectors[random.integers(2500, size=40)] + 0.1 * random.standard_normal((40, DIMENSION))).astype(np.float32)


@pytest.fixture(scope="session", params=sorted(SPECS))
def built(
    request: pytest.FixtureRequest, vectors: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Built]:
    spec = SPECS[request.param]
    folder = tmp_path_factory.mktemp("ann")
    trained = train_template(spec, vectors[: spec.train_vectors])
    path = folder / "template"
    template = load_template(spec, path if trained.save(path) else None)
    with ExitStack() as opened:

        def segment(name: str, start: int, end: int) -> VectorFile:
            stored = opened.enter_context(_write_vectors(folder / f"{name}.f16", vectors[start:end]))
            trained.write_segment(stored.blocks(), folder / f"{name}.ann")
            return stored

        bounds = [0, 1300, 1301, 2500]
        files = [segment(f"part{i}", bounds[i], bounds[i + 1]) for i in range(3)]
        parts = template.open([folder / f"part{i}.ann" for i in range(3)], files)
        whole = template.open([folder / "whole.ann"], [segment("whole", 0, 2500)])
        yield Built(spec, vectors, folder, template, whole, parts)
