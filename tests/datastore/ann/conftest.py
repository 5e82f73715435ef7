from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datastore.ann.index import AnnCandidates, SegmentIndex, Template, load_template, search_segments, train_template
from datastore.ann.spec import IndexSpec
from datastore.store.vectors import VectorFile, VectorWriter

DIMENSION = 32
SPECS = {
    "flat": IndexSpec("flat", DIMENSION),
    "ivf-pq": IndexSpec("ivf-pq", DIMENSION, nlist=16, pq_m=8, train_vectors=2000, seed=7),
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
    whole: list[SegmentIndex]
    parts: list[SegmentIndex]
    starts: NDArray[np.int64]

    def search(self, query: NDArray[np.float32], depth: int, nprobe: int = 16) -> AnnCandidates:
        return search_segments(self.template, self.whole, query, depth, nprobe)

    def search_parts(self, query: NDArray[np.float32], depth: int, nprobe: int = 16) -> AnnCandidates:
        """Rows as if the segments were one."""
        found = search_segments(self.template, self.parts, query, depth, nprobe)
        return AnnCandidates(np.zeros_like(found.segments), found.rows + self.starts[found.segments], found.scores)


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

        def segment(name: str, start: int, end: int) -> SegmentIndex:
            stored = opened.enter_context(_write_vectors(folder / f"{name}.f16", vectors[start:end]))
            trained.write_segment(stored.blocks(), folder / f"{name}.ann")
            return template.open_segment(folder / f"{name}.ann", stored)

        bounds = [0, 1300, 1301, 2500]
        parts = [segment(f"part{i}", bounds[i], bounds[i + 1]) for i in range(3)]
        yield Built(spec, vectors, folder, template, [segment("whole", 0, 2500)], parts, np.array(bounds[:3]))
