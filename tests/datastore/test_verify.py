"""`verify` reads every byte."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from datastore.errors import DataLoss, NotFound
from datastore.store.manifest import read_manifest
from datastore.verify import verify


@pytest.fixture(params=["flat_store", "ivf_store"])
def store(request: pytest.FixtureRequest) -> Path:
    """Between them they have every kind of file."""
    found: Path = request.getfixturevalue(request.param)
    return found


def test_a_sound_store(store: Path) -> None:
    manifest = read_manifest(store)
    told: list[tuple[int, int]] = []
    report = verify(store, lambda done, total: told.append((done, total)))
    assert (report.problems, report.orphans, report.generation) == ((), (), 1)
    assert report.files == len(manifest.files()) + 1
    assert report.bytes == sum(record.bytes for record in manifest.files())
    assert told == sorted(told)
    assert told[-1] == (report.bytes, report.bytes)


def test_every_changed_byte_is_found_and_its_file_named(store: Path) -> None:
    for record in read_manifest(store).files():
        path = store / record.path
        content = path.read_bytes()
        for position in sorted({0, len(content) // 2, len(content) - 1}) if content else ():
            changed = bytearray(content)
            changed[position] ^= 0x10
            path.write_bytes(changed)
            (problem,) = verify(store).problems
            assert problem.startswith(f"{path} is damaged: its checksum is ")
            assert record.xxh3_128 in problem
        path.write_bytes(content)
    assert verify(store).problems == ()


def test_every_cut_grown_or_missing_file_is_named(store: Path) -> None:
    for record in read_manifest(store).files():
        path = store / record.path
        content = path.read_bytes()
        if content:
            path.write_bytes(content[:-1])
            assert verify(store).problems == (f"{path} has {len(content) - 1} bytes; the manifest says {len(content)}",)
        path.write_bytes(content + b"\0")
        assert verify(store).problems == (f"{path} has {len(content) + 1} bytes; the manifest says {len(content)}",)
        path.unlink()
        assert verify(store).problems == (f"{path} is missing: No such file or directory",)
        path.write_bytes(content)


def test_all_damage_is_listed(store: Path) -> None:
    segments = sorted((store / "segments").iterdir())
    (segments[0] / "vectors.f16").unlink()
    shutil.rmtree(segments[1] / "passages")
    (segments[1] / "columns.arrow").write_bytes(b"")
    problems = verify(store).problems
    gone = sum(f"{segments[1].name}/passages/" in record.path for record in read_manifest(store).files())
    assert len(problems) == 2 + gone
    for path in (segments[0] / "vectors.f16", segments[1] / "columns.arrow", segments[1] / "passages" / "CURRENT"):
        assert sum(str(path) in problem for problem in problems) == 1


def test_a_file_that_is_a_folder(store: Path) -> None:
    path = store / "segments" / "00000001-000000" / "vectors.f16"
    path.unlink()
    path.mkdir()
    (problem,) = verify(store).problems
    assert str(path) in problem


def test_files_of_no_generation_are_noted(store: Path) -> None:
    (store / "segments" / "00000002-000000").mkdir()
    (store / "segments" / "00000002-000000" / "vectors.f16").write_bytes(b"x")
    (store / "notes.txt").write_text("mine")
    report = verify(store)
    assert report.problems == ()
    assert report.orphans == ("notes.txt", "segments/00000002-000000/vectors.f16")


def test_a_damaged_manifest(store: Path) -> None:
    path = store / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"generation": 1', b'"generation": 2'))
    with pytest.raises(DataLoss, match=str(path)):
        verify(store)
    path.unlink()
    with pytest.raises(NotFound):
        verify(store)
