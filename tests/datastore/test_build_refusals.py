"""Builds that cannot be: one line that says why, nothing published, nothing of anybody's touched."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from datastore.build import build
from datastore.encoders.hashing import HashingEncoder
from datastore.encoders.registry import ENCODERS
from datastore.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    PergamonError,
    ResourceExhausted,
    Unavailable,
)
from datastore.store.lock import write_lock
from datastore.store.manifest import read_manifest
from datastore.tasks.progress import BuildProgress
from datastore.verify import verify

if TYPE_CHECKING:
    from tests.datastore.conftest import Config, WriteDocuments


@pytest.fixture
def source(tmp_path: Path, write_documents: WriteDocuments) -> Path:
    return write_documents(tmp_path / "items.jsonl", 300)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_no_such_input(tmp_path: Path, config: Config) -> None:
    with pytest.raises(NotFound, match="absent"):
        build([str(tmp_path / "absent.jsonl")], tmp_path / "store", config())
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", r"no document in .*items\.jsonl;"),
        ("{}\n\nnull\n", r"all 2 records were rejected \(no text 1, not an object 1\)"),
    ],
)
def test_no_document(tmp_path: Path, config: Config, content: str, problem: str) -> None:
    (tmp_path / "items.jsonl").write_text(content)
    with pytest.raises(InvalidArgument, match=problem):
        build([str(tmp_path / "items.jsonl")], tmp_path / "store", config())
    with pytest.raises(NotFound):
        read_manifest(tmp_path / "store")


def test_a_datastore_is_not_built_over(source: Path, flat_store: Path, config: Config) -> None:
    before = read_manifest(flat_store)
    with pytest.raises(AlreadyExists, match=f"{flat_store} holds a datastore") as caught:
        build([str(source)], flat_store, config())
    assert caught.value.field == "store"
    assert read_manifest(flat_store) == before
    assert verify(flat_store).problems == ()


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "segments.old"])
def test_a_folder_of_somebody_is_left_as_it_is(source: Path, tmp_path: Path, config: Config, name: str) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / name).write_text("mine")
    with pytest.raises(AlreadyExists, match=f"it has '{name}'"):
        build([str(source)], store, config())
    assert names(store) == [name]


def test_what_a_killed_build_left_is_swept(source: Path, tmp_path: Path, config: Config) -> None:
    store = tmp_path / "store"
    (store / "segments" / "00000001-000007" / "passages").mkdir(parents=True)
    for name in (
        "segments/00000001-000007/passages/CURRENT",
        "segments/x",
        "template.faiss",
        "rejects-1.jsonl",
    ):
        (store / name).write_text("left over")
    (store / "write.lock").touch()
    (store / "manifest.json.tmp").write_text("{")
    (store / "build-log.jsonl.tmp").write_text("{")
    build([str(source)], store, config())
    report = verify(store)
    assert (report.problems, report.orphans) == ((), ())
    assert not list(store.glob("*.tmp"))


def test_a_store_inside_its_input(
    tmp_path: Path, source: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rejects would be input, which makes rejects."""
    monkeypatch.chdir(tmp_path)
    for store in (Path("store"), tmp_path / "deep" / "store", Path()):
        with pytest.raises((InvalidArgument, AlreadyExists)) as caught:
            build(["."], store, config())
        assert caught.value.field == "store"
    assert names(tmp_path) == [source.name]
    build([source.name], Path("store"), config())


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        ({"encoder": {"name": "hashed"}}, "no encoder is called 'hashed'"),
        ({"bm25": {"analyzer": "klingon"}}, "klingon"),
        ({"index": {"kind": "ivf-pq", "pq_m": 7}}, "pq_m is 7"),
        ({"index": {"kind": "auto", "pq_m": 7}}, "pq_m is 7"),
    ],
)
def test_settings_are_checked_before_anything_is_made(
    tmp_path: Path, source: Path, config: Config, sections: dict[str, dict[str, object]], problem: str
) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        build([str(source)], tmp_path / "store", config(**sections))
    assert not (tmp_path / "store").exists()


def test_too_few_passages_for_the_index(tmp_path: Path, config: Config, write_documents: WriteDocuments) -> None:
    few = write_documents(tmp_path / "few.jsonl", 255)
    with pytest.raises(InvalidArgument, match="255 passages cannot train an ivf-pq index"):
        build([str(few)], tmp_path / "store", config(index={"kind": "ivf-pq"}))
    assert names(tmp_path / "store") == ["write.lock"]


def test_a_second_build_waits_its_turn(tmp_path: Path, source: Path, config: Config) -> None:
    store = tmp_path / "store"
    seen: list[PergamonError] = []

    def build_too(step: BuildProgress) -> None:
        with pytest.raises(Unavailable, match="another process is writing") as caught:
            build([str(source)], store, config())
        seen.append(caught.value)

    build([str(source)], store, config(), build_too)
    assert len(seen) >= 3
    assert verify(store).problems == ()


def test_a_lock_of_another_process(tmp_path: Path, source: Path, config: Config) -> None:
    with write_lock(tmp_path / "store"), pytest.raises(Unavailable):
        build([str(source)], tmp_path / "store", config())
    assert names(tmp_path / "store") == ["write.lock"]


@pytest.mark.parametrize("stage", ["scan", "passages", "index", "publish"])
def test_an_interrupted_build_is_gone_on_with(tmp_path: Path, source: Path, config: Config, stage: str) -> None:
    def interrupt(step: BuildProgress) -> None:
        if step.stage == stage:
            raise KeyboardInterrupt

    settings = config(segment={"passages": 100})
    with pytest.raises(KeyboardInterrupt):
        build([str(source)], tmp_path / "store", settings, interrupt)
    assert "manifest.json" not in names(tmp_path / "store")
    notes: list[str] = []
    build([str(source)], tmp_path / "store", settings, on_note=notes.append)
    assert notes == [f"going on with the build that was begun in {tmp_path / 'store'}"]
    report = verify(tmp_path / "store")
    assert (report.problems, report.orphans) == ((), ())


class BrokenEncoder(HashingEncoder):
    """A model that fails on one text."""

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = super().encode_passages(texts)
        vectors[[text.startswith("Item 250 ") for text in texts]] = np.nan
        return vectors


def test_an_encoder_that_fails_on_a_text(
    tmp_path: Path, source: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENCODERS, "hashing", lambda *_: BrokenEncoder())
    with pytest.raises(InvalidArgument, match="not finite"):
        build([str(source)], tmp_path / "store", config(segment={"passages": 100}))
    assert names(tmp_path / "store") == ["write.lock"]


def test_a_store_path_that_cannot_be(tmp_path: Path, source: Path, config: Config) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "store", tmp_path / ("n" * 300)):
        with pytest.raises(InvalidArgument, match="cannot write") as caught:
            build([str(source)], path, config())
        assert str(path.parent) in caught.value.problem
    assert (tmp_path / "file").read_text() == "mine"


@contextmanager
def plain_user() -> Iterator[None]:
    """Permissions do not bind root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_a_folder_that_may_not_be_written(config: Config, write_documents: WriteDocuments, mode: int) -> None:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    source = write_documents(folder / "items.jsonl", 5)
    (folder / "locked").mkdir()
    (folder / "locked").chmod(mode)
    try:
        with plain_user(), pytest.raises(InvalidArgument, match=r"cannot write .*locked.*: Permission denied"):
            build([str(source)], folder / "locked" / "store", config())
    finally:
        (folder / "locked").chmod(0o755)
        shutil.rmtree(folder)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        *(("ivf-pq", size) for size in (0, 5_000, 9_000, 50_000, 80_000, 160_000)),
        *(("ivf-pq4", size) for size in (0, 9_000, 20_000, 50_000, 80_000)),
        ("ivf-rabitq", 80_000),
    ],
)
def test_files_that_cannot_grow(tmp_path: Path, config: Config, source: Path, size: int, kind: str) -> None:
    """As on a full disk: an error in the middle of some write; which part fails depends on the size."""
    settings = config(segment={"passages": 250}, index={"kind": kind, "nlist": 16, "pq_m": 16})
    with file_size_limit(size), pytest.raises(ResourceExhausted, match="File too large") as caught:
        build([str(source)], tmp_path / "store", settings)
    assert "\n" not in str(caught.value)
    assert "manifest.json" not in names(tmp_path / "store")
    build([str(source)], tmp_path / "store", settings)
    report = verify(tmp_path / "store")
    assert (report.problems, report.orphans) == ((), ())


def test_a_full_disk(tmp_path: Path, config: Config, source: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    store = disk / "store"
    settings = config(segment={"passages": 100}, index={"kind": "ivf-pq", "nlist": 16, "pq_m": 16})
    sizes = [16, 60, 160, 280, 420, 560, 700, 860]
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        for size in sizes:  # a little more space each time: it goes on, and stops somewhere else
            subprocess.run(["mount", "-o", f"remount,size={size}k", str(disk)], check=True)
            with pytest.raises(ResourceExhausted, match="No space left on device") as caught:
                build([str(source)], store, settings)
            assert "\n" not in str(caught.value)
            assert "manifest.json" not in names(store)
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        build([str(source)], store, settings)
        report = verify(store)
        assert (report.problems, report.orphans) == ((), ())
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)  # the caught error's frames still map a file
