from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from datastore.errors import DataLoss, InvalidArgument
from datastore.store.vectors import VectorFile, VectorWriter, inner_products, widened

FLOAT16_MAX = 65504.0


def write(path: Path, *blocks: NDArray[np.float32]) -> Path:
    writer = VectorWriter(path, blocks[0].shape[1])
    for block in blocks:
        writer.add(block)
    writer.close()
    return path


@settings(max_examples=50, deadline=None)
@given(
    vectors=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=20),
        elements=st.floats(-FLOAT16_MAX, FLOAT16_MAX, width=32),
    ),
    data=st.data(),
)
def test_round_trip(
    vectors: NDArray[np.float32], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("vectors") / "v"
    cut = data.draw(st.integers(0, len(vectors)))
    write(path, vectors[:cut], vectors[cut:])
    assert path.read_bytes() == vectors.astype("<f2").tobytes()
    rows = np.array(data.draw(st.lists(st.integers(0, len(vectors) - 1), max_size=30)), np.int64)
    with VectorFile(path, len(vectors), vectors.shape[1]) as stored:
        read = stored.read(rows)
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, vectors.astype(np.float16).astype(np.float32)[rows])
        np.testing.assert_array_equal(stored.matrix, vectors.astype(np.float16))
        blocks = stored.blocks(7)
        assert all(len(block) <= 7 for block in blocks)
        np.testing.assert_array_equal(np.concatenate(blocks), vectors.astype(np.float16))
        del blocks


def test_no_rows(tmp_path: Path) -> None:
    with VectorFile(write(tmp_path / "v", np.empty((0, 5), np.float32)), 0, 5) as stored:
        assert stored.read(np.empty(0, np.int64)).shape == (0, 5)
        assert stored.blocks() == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 65505.0, -1e9])
def test_values_without_a_float16_are_refused(tmp_path: Path, value: float) -> None:
    writer = VectorWriter(tmp_path / "v", 3)
    vectors = np.zeros((4, 3), np.float32)
    vectors[2, 1] = value
    with pytest.raises(InvalidArgument, match="65504"):
        writer.add(vectors)
    writer.close()
    assert (tmp_path / "v").stat().st_size == 0


@pytest.mark.parametrize("shape", [(3,), (2, 2), (2, 4), (1, 2, 3)])
def test_another_shape_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    writer = VectorWriter(tmp_path / "v", 3)
    with pytest.raises(InvalidArgument, match=r"wanted \(n, 3\)"):
        writer.add(np.zeros(shape, np.float32))
    writer.close()


@pytest.mark.parametrize("change", [-1, 1, -6, 6])
def test_another_size_is_data_loss(tmp_path: Path, change: int) -> None:
    path = write(tmp_path / "v", np.ones((4, 3), np.float32))
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + bytes(change))
    with pytest.raises(DataLoss, match=f"{path} has {24 + change} bytes; 4 rows of 3 float16 need 24"):
        VectorFile(path, 4, 3)


def test_arrays_outlive_the_file(tmp_path: Path) -> None:
    stored = VectorFile(write(tmp_path / "v", np.arange(12, dtype=np.float32).reshape(4, 3)), 4, 3)
    matrix = stored.matrix
    stored.close()
    stored.close()
    np.testing.assert_array_equal(matrix, np.arange(12).reshape(4, 3))


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 70),
    dimension=st.one_of(st.integers(1, 70), st.sampled_from([96, 256, 384, 768, 1023, 1024])),
    data=st.data(),
)
def test_a_score_does_not_depend_on_the_other_rows(seed: int, rows: int, dimension: int, data: st.DataObject) -> None:
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((rows, dimension), np.float32).astype(np.float16).astype(np.float32)
    query = random.standard_normal(dimension, np.float32)
    scores = inner_products(vectors, query)
    assert scores.dtype == np.float32
    chosen = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=rows))
    # Bit patterns, so that 0.0 and -0.0 differ.
    assert inner_products(vectors[chosen], query).tobytes() == scores[chosen].tobytes()
    for row in {0, rows // 2, rows - 1}:
        assert inner_products(vectors[row : row + 1], query).tobytes() == scores[row : row + 1].tobytes()
        assert inner_products(vectors[row:], query).tobytes() == scores[row:].tobytes()
    exact = vectors.astype(np.float64) @ query.astype(np.float64)
    tolerance = 1e-6 * np.abs(vectors).astype(np.float64) @ np.abs(query)
    assert (np.abs(scores - exact) <= tolerance).all()


def test_widened_is_exact_for_every_float16() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    wide = widened(finite)
    np.testing.assert_array_equal(wide, finite.astype(np.float32))
    np.testing.assert_array_equal(np.signbit(wide), np.signbit(finite))
