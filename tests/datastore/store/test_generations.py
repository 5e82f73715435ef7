"""Generations: held while they are read, collected when they are not."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from datastore.errors import InvalidArgument, NotFound, ResourceExhausted, Unavailable
from datastore.store import manifest as manifests
from datastore.store.checksums import FileRecord
from datastore.store.generations import collect, hold, kept_generations, writing
from datastore.store.manifest import Manifest, generation_path, publish, read_manifest, succeeding
from datastore.store.reader import StoreReader
from datastore.verify import verify


def drop_first_segment(store: Path) -> Manifest:
    """A generation with one segment less."""
    with writing(store) as manifest:
        newer = succeeding(manifest, segments=manifest.segments[1:])
        publish(store, newer)
    return newer


def first_folder(store: Path) -> Path:
    return store / "segments" / read_manifest(store).segments[0].segment_id


def test_a_build_leaves_the_copy_that_readers_lock(flat_store: Path) -> None:
    (copy,) = (flat_store / "generations").iterdir()
    assert copy == generation_path(flat_store, 1)
    assert copy.read_bytes() == (flat_store / "manifest.json").read_bytes()
    assert kept_generations(flat_store) == [read_manifest(flat_store)]


def test_what_a_newer_generation_does_not_name_goes(flat_store: Path) -> None:
    gone = first_folder(flat_store)
    newer = drop_first_segment(flat_store)
    assert not gone.exists()
    assert [kept.generation for kept in kept_generations(flat_store)] == [newer.generation] == [2]
    report = verify(flat_store)
    assert (report.problems, report.orphans) == ((), ())


def test_what_a_reader_holds_stays_until_it_is_closed(flat_store: Path) -> None:
    reader = StoreReader(flat_store)
    gone = first_folder(flat_store)
    drop_first_segment(flat_store)
    assert gone.exists()
    assert reader.manifest.generation == 1
    assert reader.segments[0].passages.get([0])[0].document_id == "d0"
    assert verify(flat_store).orphans == ()
    newest = StoreReader(flat_store)
    assert newest.manifest.generation == 2
    newest.close()
    reader.close()
    with writing(flat_store):
        pass
    assert not gone.exists()
    assert [kept.generation for kept in kept_generations(flat_store)] == [2]


def test_a_reader_of_another_process_counts(flat_store: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from datastore.store.generations import hold\n"
        "held = hold(Path(sys.argv[1])); print(held.manifest.generation, flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(flat_store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        gone = first_folder(flat_store)
        drop_first_segment(flat_store)
        assert gone.exists()
    finally:
        process.kill()
        process.communicate()
    with writing(flat_store):
        pass
    assert not gone.exists()


def test_two_readers_of_different_generations(flat_store: Path) -> None:
    first = hold(flat_store)
    folders = [first_folder(flat_store)]
    drop_first_segment(flat_store)
    second = hold(flat_store)
    folders.append(first_folder(flat_store))
    drop_first_segment(flat_store)
    assert [folder.exists() for folder in folders] == [True, True]
    first.release()
    with writing(flat_store):
        pass
    assert [folder.exists() for folder in folders] == [False, True]
    second.release()
    second.release()
    with writing(flat_store):
        assert [folder.exists() for folder in folders] == [False, False]


def test_readers_that_open_while_generations_come_and_go_see_whole_ones(flat_store: Path) -> None:
    done, failures, seen = threading.Event(), list[BaseException](), set[int]()

    def read() -> None:
        try:
            while not done.is_set():
                reader = StoreReader(flat_store)
                seen.add(reader.manifest.generation)
                for segment in reader.segments:
                    segment.passages.get([0])
                reader.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    segments = read_manifest(flat_store).segments
    for count in range(25):
        # The same segments under other names, so that every generation supersedes all files of the one before.
        with writing(flat_store) as manifest:
            name = f"{manifest.generation + 1:08d}-000000"
            old = manifest.segments[0].segment_id
            shutil.copytree(flat_store / "segments" / old, flat_store / "segments" / name)
            record = manifests.SegmentRecord(
                name,
                segments[0].passages,
                segments[0].documents,
                segments[0].words,
                segments[0].tokens,
                0,
                tuple(
                    FileRecord(file.path.replace(old, name), file.bytes, file.xxh3_128)
                    for file in manifest.segments[0].files
                ),
            )
            publish(flat_store, succeeding(manifest, segments=(record,)))
        assert read_manifest(flat_store).generation == 2 + count
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(seen) > 1


def test_a_writer_that_fails_leaves_nothing(flat_store: Path) -> None:
    left = flat_store / "segments" / "00000002-000000"

    def fail() -> None:
        with writing(flat_store) as manifest:
            left.mkdir()
            manifests.keep_copy(flat_store, 2, manifests.encode_manifest(succeeding(manifest)))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not left.exists()
    assert [kept.generation for kept in kept_generations(flat_store)] == [1]


def test_what_a_killed_writer_left_is_swept_by_the_next(flat_store: Path) -> None:
    leftovers = [
        "segments/00000002-000000/vectors.f16",
        "deletions/00000001-000000-00000002.bits",
        "generations/00000002.json.tmp",
        "rejects-2.jsonl",
        "rejects-3.jsonl.tmp",
        "template-2.npz",
        "manifest.json.tmp",
    ]
    for name in [*leftovers, "notes.txt"]:
        (flat_store / name).parent.mkdir(exist_ok=True)
        (flat_store / name).write_bytes(b"x")
    assert len(verify(flat_store).orphans) == 8
    with writing(flat_store):
        pass
    assert verify(flat_store).orphans == ("notes.txt",)


def test_a_store_from_before_generations_were_kept(flat_store: Path) -> None:
    shutil.rmtree(flat_store / "generations")
    reader = StoreReader(flat_store)
    assert reader.manifest.generation == 1
    reader.close()
    gone = first_folder(flat_store)
    with writing(flat_store) as manifest:
        held = hold(flat_store)  # the writer has made the copy
        publish(flat_store, succeeding(manifest, segments=manifest.segments[1:]))
    assert gone.exists()
    held.release()


def test_a_copy_that_cannot_be_read_keeps_everything(flat_store: Path) -> None:
    gone = first_folder(flat_store)
    held = hold(flat_store)
    generation_path(flat_store, 1).write_bytes(b"damaged")
    drop_first_segment(flat_store)
    assert gone.exists()
    held.release()
    with writing(flat_store):
        pass
    assert not gone.exists()


def test_two_writers(flat_store: Path) -> None:
    with writing(flat_store), pytest.raises(Unavailable, match="another process is writing"), writing(flat_store):
        pass
    with writing(flat_store):
        pass


def test_no_folder_is_made_for_a_store_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound), writing(tmp_path / "nothing"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_generation_before(flat_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        if path.name == "manifest.json":
            raise OSError(28, "No space left on device", str(path))

    before = read_manifest(flat_store)
    monkeypatch.setattr(manifests, "replace_file", full)
    with pytest.raises(ResourceExhausted, match="no space left"):
        drop_first_segment(flat_store)
    monkeypatch.undo()
    assert read_manifest(flat_store) == before
    assert verify(flat_store).orphans == ()


def test_a_read_only_file_system_is_read_and_not_written(flat_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really_open = os.open

    def refuse(path: str | Path, flags: int, *rest: int, **more: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and str(path).startswith(str(flat_store)):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return really_open(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)  # permissions do not stop root, whom tests may run as
    reader = StoreReader(flat_store)
    assert len(reader.segments) == 5
    reader.close()
    with pytest.raises(InvalidArgument, match=r"cannot write .*write\.lock: Read-only file system"):
        drop_first_segment(flat_store)


def test_the_lock_is_shared_and_held(flat_store: Path) -> None:
    held, again = hold(flat_store), hold(flat_store)
    with generation_path(flat_store, 1).open("r+b") as copy, pytest.raises(BlockingIOError):
        fcntl.flock(copy, fcntl.LOCK_EX | fcntl.LOCK_NB)
    held.release()
    again.release()
    assert collect(flat_store) == 0
    with generation_path(flat_store, 1).open("r+b") as copy:
        fcntl.flock(copy, fcntl.LOCK_EX | fcntl.LOCK_NB)
