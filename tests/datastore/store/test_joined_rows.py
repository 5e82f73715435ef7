from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from datastore.store.exact import ExactVectors
from datastore.store.joined_rows import JoinedRows
from datastore.store.vectors import VectorFile, VectorWriter


@pytest.mark.parametrize("dimension", [3, 256, 384])
def test_rows_of_several_files_as_of_one(dimension: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    parts = [generator.normal(size=(rows, dimension)).astype(np.float32) for rows in (700, 0, 1, 41, 0)]
    files = []
    for number, part in enumerate(parts):
        writer = VectorWriter(tmp_path / str(number), dimension)
        writer.add(part)
        writer.close()
        files.append(VectorFile(tmp_path / str(number), len(part), dimension))
    whole = np.concatenate(parts).astype(np.float16)
    exact = ExactVectors(files, dimension)
    for wanted in (np.arange(742), np.array([0, 699, 700, 701, 741]), np.array([701]), np.empty(0, np.int64)):
        np.testing.assert_array_equal(exact.read(wanted), whole[wanted].astype(np.float32))
    joined = JoinedRows([file.matrix for file in files])
    for file in files:
        file.close()
    gc.collect()
    found = joined.take(np.array([3, 0, 2]), np.array([40, 5, 0]))  # the memory stays, whoever closes the files
    np.testing.assert_array_equal(found, whole[[741, 5, 700]])


def test_no_rows_at_all(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with VectorFile(tmp_path / "a", 0, 4) as first, VectorFile(tmp_path / "a", 0, 4) as second:
        assert ExactVectors([first, second], 4).read(np.empty(0, np.int64)).shape == (0, 4)


def test_arrays_elsewhere_than_at_pages() -> None:
    memory = np.zeros(4096, np.float16)
    with pytest.raises(ValueError, match="begin at pages"):
        JoinedRows([memory[:512].reshape(2, 256), memory[513:1025].reshape(2, 256)])
