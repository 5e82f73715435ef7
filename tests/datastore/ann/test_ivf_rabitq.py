"""RaBitQ's codes, held against docs/FORMAT.md and numpy alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datastore.ann.index import AnnIndex, load_template, train_template
from datastore.ann.kinds import ivf_rabitq
from datastore.ann.spec import IndexSpec
from datastore.store.vectors import VectorFile, VectorWriter

Floats = NDArray[np.float32]
NLIST, ROWS = 8, 600


@dataclass(frozen=True)
class Files:
    spec: IndexSpec
    template: Path
    codes: Path
    stored: VectorFile
    vectors: Floats

    def open(self) -> AnnIndex:
        return load_template(self.spec, self.template).open([self.codes], [self.stored])


def write(folder: Path, dimension: int, bits: int, copies: int = 1) -> Files:
    spec = IndexSpec(
        "ivf-rabitq", dimension, NLIST, train_vectors=ROWS, seed=5, copies=copies, spill_weight=copies - 1.0, bits=bits
    )
    random = np.random.default_rng(dimension)
    vectors = random.standard_normal((ROWS, dimension))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)
    writer = VectorWriter(folder / "v", dimension)
    writer.add(vectors)
    writer.close()
    stored = VectorFile(folder / "v", ROWS, dimension)
    template = train_template(spec, vectors)
    template.save(folder / "template.npz")
    template.write_segment(stored.blocks(), folder / "ann.lists")
    return Files(spec, folder / "template.npz", folder / "ann.lists", stored, vectors)


def scores_by_the_format(files: Files, query: Floats) -> Floats:
    """Of every row, for one copy: read and scored as docs/FORMAT.md says."""
    dimension, ex_bits = -(-files.spec.dimension // 8) * 8, files.spec.bits - 1
    arrays = np.load(files.template)
    data = files.codes.read_bytes()
    lengths = np.frombuffer(data, "<u4", NLIST)
    rows = np.frombuffer(data, "<u4", ROWS, 4 * NLIST)
    codes = np.frombuffer(data, np.uint8, offset=4 * (NLIST + ROWS)).reshape(ROWS, -1)
    at = np.cumsum([0, dimension // 8, 12 if ex_bits else 8, dimension * ex_bits // 8, 8 if ex_bits else 0])
    assert codes.shape[1] == at[-1] == files.spec.code_bytes
    signs, factors, refinement, ex_factors = (codes[:, i:j] for i, j in pairwise(at))
    bits = np.unpackbits(signs, axis=1, bitorder="little").astype(np.float64)
    offset, scale = factors.copy().view("<f4")[:, :2].astype(np.float64).T
    centroids = arrays["centroids"].repeat(lengths, axis=0).astype(np.float64)
    rotated = arrays["rotation"].astype(np.float64) @ query
    residual = rotated - centroids
    if ex_bits:
        add, rescale = ex_factors.copy().view("<f4").astype(np.float64).T
        low = np.unpackbits(refinement, axis=1, bitorder="little").reshape(ROWS, dimension, ex_bits)
        number = bits * 2**ex_bits + low @ (1 << np.arange(ex_bits)) - 2**ex_bits + 0.5
        found = centroids @ rotated + add + rescale * (residual * number).sum(axis=1)
    else:
        products = (residual * (2 * bits - 1)).sum(axis=1) / np.sqrt(dimension)
        found = (rotated @ rotated - (residual**2).sum(axis=1) - offset) / 2 + scale * products
    scores = np.empty(ROWS, np.float32)
    scores[rows] = found
    return scores


@pytest.mark.parametrize(("bits", "dimension"), [(1, 36), (1, 64), (2, 64), (4, 36), (8, 17)])
def test_scores_are_those_of_the_format(tmp_path: Path, bits: int, dimension: int) -> None:
    files = write(tmp_path, dimension, bits)
    index = files.open()
    for query in files.vectors[::100] + np.float32(0.02):
        expected = scores_by_the_format(files, query)
        scores, rows = index.search(query[None], 20, NLIST, None)
        # The signs' scores go through tables of bytes; the refined ones are floats.
        np.testing.assert_allclose(scores[0], expected[rows[0]], atol=0.02 if bits == 1 else 1e-5)
        assert scores[0].min() > np.sort(expected)[-20] - 0.04
    files.stored.close()


@pytest.mark.parametrize(("bits", "error"), [(1, 0.17), (2, 0.085), (4, 0.03), (8, 0.003)])
def test_more_bits_are_nearer(tmp_path: Path, bits: int, error: float) -> None:
    """By the root of the mean square; and on the whole too high as much as too low."""
    files = write(tmp_path, 64, bits)
    index = files.open()
    differences = []
    for query in files.vectors[::30]:
        scores, rows = index.search(query[None], ROWS, NLIST, None)
        differences.append(scores[0] - files.vectors[rows[0]] @ query)
    assert np.sqrt(np.mean(np.square(differences))) < error
    assert abs(np.mean(differences)) < error / 5
    files.stored.close()


@pytest.mark.parametrize("bits", [1, 4])
def test_tables_of_few_lists_at_a_time(tmp_path: Path, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write(tmp_path, 64, bits, copies=2)
    whole = files.open().search(files.vectors[:40], 30, NLIST, None)
    monkeypatch.setattr(ivf_rabitq, "_TABLE_BYTES", 3 * 20 * 64)
    parts = files.open().search(files.vectors[:40], 30, NLIST, None)
    np.testing.assert_allclose(np.sort(parts[0]), np.sort(whole[0]), atol=0.02)
    assert np.mean([len(np.intersect1d(mine, other)) for mine, other in zip(parts[1], whole[1], strict=True)]) > 20
    files.stored.close()


def test_a_query_that_is_a_centroid(tmp_path: Path) -> None:
    files = write(tmp_path, 64, 1)
    arrays = np.load(files.template)
    for nprobe in (1, 2, NLIST):
        scores, rows = files.open().search(arrays["centroids"] @ arrays["rotation"], 20, nprobe, None)
        assert np.isfinite(scores).all()
        assert (rows >= 0).all()
    files.stored.close()


def test_many_dimensions(tmp_path: Path) -> None:
    """Sums of 256 tables of bytes do not run over."""
    files = write(tmp_path, 1024, 1)
    index = files.open()
    for query in files.vectors[::60]:
        scores, rows = index.search(query[None], ROWS, NLIST, None)
        assert np.abs(scores[0] - files.vectors[rows[0]] @ query).max() < 0.2
    files.stored.close()
