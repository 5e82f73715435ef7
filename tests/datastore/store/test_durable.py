"""Files that last, and one writer at a time."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from datastore.errors import ResourceExhausted, Unavailable
from datastore.store.durable import fsync_tree, replace_file
from datastore.store.lock import LOCK_NAME, write_lock
from datastore.store.refusals import storage_errors


def test_replace_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    (tmp_path / "file.tmp").write_bytes(b"left by a killed writer, and longer than what comes")
    for content in (b"first", b"", b"second"):
        replace_file(path, content)
        assert path.read_bytes() == content
        assert list(tmp_path.iterdir()) == [path]


def test_a_reader_sees_the_old_or_the_new_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([i]) * 200_000 for i in range(2)]
    replace_file(path, contents[0])
    seen = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for turn in range(60):
            replace_file(path, contents[turn % 2])
    finally:
        done.set()
        reader.join()
    assert seen == set(contents)


def test_a_failed_replacement_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            replace_file(path, bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"old"


def test_a_full_disk_is_named_by_where_the_copy_went(tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(bytes(5000))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(ResourceExhausted, match=r"no space left: .*/to: "), storage_errors(tmp_path):
            shutil.copyfile(tmp_path / "from", tmp_path / "to")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_fsync_tree_reaches_every_file_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("one", "a/two", "a/b/three"):
        (tmp_path / name).touch()
    synced = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    fsync_tree(tmp_path)
    assert sorted(synced) == sorted(path.stat().st_ino for path in [tmp_path, *tmp_path.rglob("*")])
    assert synced[-1] == tmp_path.stat().st_ino


def test_the_lock_makes_the_folder_and_is_free_afterwards(tmp_path: Path) -> None:
    store = tmp_path / "new" / "store"
    for _ in range(2):
        with write_lock(store):
            assert [path.name for path in store.iterdir()] == [LOCK_NAME]


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    second = write_lock(tmp_path)
    with write_lock(tmp_path), pytest.raises(Unavailable, match=f"another process is writing to {tmp_path}"):
        second.__enter__()
    with pytest.raises(ZeroDivisionError), write_lock(tmp_path):
        _ = 1 / 0
    with write_lock(tmp_path):
        pass


_HOLDER = """
import sys, time
from pathlib import Path
from datastore.store.lock import write_lock
with write_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Unavailable), write_lock(tmp_path):
            pass
        holder.kill()
    with write_lock(tmp_path):
        pass
