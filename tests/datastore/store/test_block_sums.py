"""Blocks of exact vectors are compared with their checksums when they are first read, by whatever way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xxhash
from numpy.typing import NDArray

from datastore.errors import DataLoss
from datastore.store.block_sums import BLOCK_ROWS, sums_path
from datastore.store.exact import ExactVectors
from datastore.store.vectors import VectorFile, VectorWriter

ROWS, DIMENSION = 100, 24
QUERY = np.ones((1, DIMENSION), np.float32)


def write(path: Path, rows: int = ROWS, at_once: int = 7) -> NDArray[np.float32]:
    vectors = np.random.default_rng(rows).standard_normal((rows, DIMENSION), np.float32)
    writer = VectorWriter(path, DIMENSION)
    for start in range(0, rows, at_once):
        writer.add(vectors[start : start + at_once])
    writer.close()
    return vectors.astype(np.float16).astype(np.float32)


def change(path: Path, row: int) -> None:
    content = bytearray(path.read_bytes())
    content[2 * DIMENSION * row + 5] ^= 1
    path.write_bytes(content)


WAYS: dict[str, Callable[[VectorFile, NDArray[np.int64]], object]] = {
    "read": lambda file, rows: file.read(rows),
    "read_block": lambda file, rows: file.read_block(int(rows[0]), int(rows[-1]) + 1),
    "blocks": lambda file, rows: file.blocks(),
    "exact": lambda file, rows: ExactVectors([file], DIMENSION).scores(QUERY, [rows]),
}


@pytest.mark.parametrize("rows", [0, 1, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, ROWS])
def test_the_file_has_the_checksum_of_each_block(tmp_path: Path, rows: int) -> None:
    write(tmp_path / "v.f16", rows)
    content, block_bytes = (tmp_path / "v.f16").read_bytes(), 2 * DIMENSION * BLOCK_ROWS
    wanted = [xxhash.xxh3_64_intdigest(content[at : at + block_bytes]) for at in range(0, len(content), block_bytes)]
    assert np.fromfile(sums_path(tmp_path / "v.f16"), "<u8").tolist() == wanted


@pytest.mark.parametrize("way", WAYS)
def test_a_changed_byte_is_found_by_every_way_of_reading(tmp_path: Path, way: str) -> None:
    path = tmp_path / "v.f16"
    write(path)
    change(path, 40)
    with VectorFile(path, ROWS, DIMENSION) as file, pytest.raises(DataLoss, match=r"v.f16 is damaged: rows 32 to 47"):
        WAYS[way](file, np.array([33, 35]))


def test_blocks_that_are_not_read_are_not_compared(tmp_path: Path) -> None:
    path = tmp_path / "v.f16"
    vectors = write(path)
    change(path, 40)
    with VectorFile(path, ROWS, DIMENSION) as file:
        rows = np.array([0, 31, 48, 99])
        np.testing.assert_array_equal(file.read(rows), vectors[rows])
        with pytest.raises(DataLoss):
            file.read(np.array([0, 47]))


def test_several_files_at_once(tmp_path: Path) -> None:
    sizes = (50, 3, 20)
    vectors = np.concatenate([write(tmp_path / f"{i}.f16", rows) for i, rows in enumerate(sizes)])
    change(tmp_path / "2.f16", 17)
    files = [VectorFile(tmp_path / f"{i}.f16", rows, DIMENSION) for i, rows in enumerate(sizes)]
    exact = ExactVectors(files, DIMENSION)
    rows = np.array([0, 49, 50, 52, 53, 68])
    for _ in range(2):
        np.testing.assert_array_equal(exact.read(rows), vectors[rows])
    for _ in range(2):  # damage stays found
        with pytest.raises(DataLoss, match=r"2.f16 is damaged: rows 16 to"):
            exact.scores(QUERY, [np.array([0, 69])])
    np.testing.assert_array_equal(exact.read(rows), vectors[rows])
    for file in files:
        file.close()


def test_a_file_without_checksums_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "v.f16"
    write(path)
    sums_path(path).unlink()
    change(path, 40)
    for way in WAYS.values():
        with VectorFile(path, ROWS, DIMENSION) as file:
            way(file, np.array([33, 40]))


def test_checksums_of_another_file(tmp_path: Path) -> None:
    path = tmp_path / "v.f16"
    write(path)
    sums_path(path).write_bytes(sums_path(path).read_bytes()[8:])
    with pytest.raises(DataLoss, match=r"v.xxh3 has 48 bytes; the checksums of 7 blocks need 56"):
        VectorFile(path, ROWS, DIMENSION)
