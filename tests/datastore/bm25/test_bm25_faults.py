"""Files that are not what was written, and a disk that is full."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

import pytest

from datastore.bm25.index import Bm25Index, Bm25Writer
from datastore.errors import DataLoss, ResourceExhausted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Bm25Writer(tmp_path / "bm25") as writer:
        writer.add([f"fox number{i} {'hen ' * (i % 9)}" for i in range(3000)])
    return tmp_path / "bm25"


def test_a_missing_folder(tmp_path: Path, folder: Path) -> None:
    for path in (tmp_path / "absent", folder / "_0.cfs"):
        with pytest.raises(DataLoss, match=str(path)):
            Bm25Index([folder, path], "english")
    assert not (tmp_path / "absent").exists()


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataLoss, match=str(tmp_path / "empty")):
        Bm25Index([tmp_path / "empty"], "english")


def test_any_missing_file_is_found(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(DataLoss, match=str(folder)):
            Bm25Index([folder], "english")
        path.write_bytes(content)
    Bm25Index([folder], "english").close()


def test_any_truncated_file_is_found(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        for length in {0, 1, 8, len(content) // 2, len(content) - 17, len(content) - 8, len(content) - 1}:
            path.write_bytes(content[: max(length, 0)])
            with pytest.raises(DataLoss, match=str(folder)) as caught:
                Bm25Index([folder], "english")
            assert "\n" not in str(caught.value)
            assert caught.value.mend
        path.write_bytes(content)
    Bm25Index([folder], "english").close()


def test_a_file_of_something_else(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        path.write_bytes(bytes(len(content)))
        with pytest.raises(DataLoss, match=str(folder)):
            Bm25Index([folder], "english")
        path.write_bytes(content)


def test_files_of_another_index(tmp_path: Path, folder: Path) -> None:
    with Bm25Writer(tmp_path / "other") as writer:
        writer.add(["fox"])
    shutil.copy(tmp_path / "other" / "_0.cfs", folder)
    with pytest.raises(DataLoss, match=str(folder)):
        Bm25Index([folder], "english")


def test_a_file_cut_while_it_is_open(folder: Path) -> None:
    index = Bm25Index([folder], "english")
    (folder / "_0.cfs").write_bytes(b"")
    with pytest.raises(DataLoss, match=str(folder)):
        index.search("fox hen number7", 1000)
    index.close()


def test_a_full_disk(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = Bm25Writer(tmp_path / "bm25")
    writer.add([f"fox number{i}" for i in range(20_000)])
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(ResourceExhausted, match=f"{tmp_path / 'bm25'}: File too large"):
            writer.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    writer.abort()
    assert list(tmp_path.iterdir()) == []
