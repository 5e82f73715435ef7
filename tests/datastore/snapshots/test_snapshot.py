"""A snapshot is the store, byte for byte, wherever it lies; what was interrupted is none, and is gone on with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from datastore.errors import AlreadyExists, DataLoss, InvalidArgument, NotFound
from datastore.keeping.addition import add
from datastore.keeping.compaction import compact
from datastore.keeping.deletion import delete
from datastore.snapshots import places
from datastore.snapshots.places import Folder, Place, open_place
from datastore.snapshots.snapshot import restore, snapshot
from datastore.store.checksums import FileRecord
from datastore.store.manifest import read_manifest
from datastore.verify import verify
from tests.datastore.sources.s3_server import KEY, SECRET, serving


@pytest.fixture(params=["folder", "memory://snapshots"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place of each kind, empty."""
    if request.param == "folder":
        return str(tmp_path / "snapshots")
    import fsspec

    files = fsspec.filesystem("memory")
    if files.exists("/snapshots"):
        files.rm("/snapshots", recursive=True)
    return str(request.param)


def contents(store: Path) -> dict[str, bytes]:
    """All files but the lock, which is nobody's content."""
    files = (path for path in store.rglob("*") if path.is_file() and path.name != "write.lock")
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in files}


def at(target: str) -> set[str]:
    """Paths of the files of a place."""
    if "://" not in target:
        return set(contents(Path(target)))
    import fsspec

    return {name.removeprefix("/snapshots/") for name in fsspec.filesystem("memory").find("/snapshots")}


def more(folder: Path, first: int, count: int = 5) -> str:
    path = folder / "more.jsonl"
    path.write_text(
        "".join(json.dumps({"_id": f"new{i}", "text": f"amber new{i}"}) + "\n" for i in range(first, first + count))
    )
    return str(path)


def test_there_and_back(ivf_store: Path, target: str, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    report = snapshot(ivf_store, target, lambda done, total: told.append((done, total)))
    assert at(target) == set(contents(ivf_store))
    assert report.files == report.files_sent == len(read_manifest(ivf_store).files())
    assert told[-1] == (report.bytes, report.bytes)
    back = restore(target, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(ivf_store)
    assert (back.files, back.bytes, back.generation) == (report.files, report.bytes, 1)
    assert verify(tmp_path / "back").problems == ()


def test_only_what_is_new_is_sent(flat_store: Path, target: str, tmp_path: Path) -> None:
    snapshot(flat_store, target)
    again = snapshot(flat_store, target)
    assert (again.files_sent, again.bytes_sent) == (0, 0)
    add(flat_store, [more(tmp_path, 0)])
    delete(flat_store, document_ids=["d3"])
    old = at(target)
    sent = snapshot(flat_store, target)
    new = {record.path for record in read_manifest(flat_store).files()} - old
    assert sent.files_sent == len(new) > 0
    compact(flat_store)
    snapshot(flat_store, target)
    # What the new generation does not name is gone, its own manifest's copy is there, and no other.
    wanted = {record.path for record in read_manifest(flat_store).files()}
    generation = read_manifest(flat_store).generation
    assert at(target) == {*wanted, "manifest.json", f"generations/{generation:08d}.json"}
    restore(target, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(flat_store)


def test_files_are_linked_and_writers_leave_them_alone(flat_store: Path, tmp_path: Path) -> None:
    report = snapshot(flat_store, str(tmp_path / "copy"))
    assert (report.files_linked, report.bytes_sent) == (report.files, 0)
    name = "segments/00000001-000000/vectors.f16"
    assert (flat_store / name).samefile(tmp_path / "copy" / name)
    before = contents(tmp_path / "copy")
    delete(flat_store, document_ids=["d3"])
    add(flat_store, [more(tmp_path, 0)])
    compact(flat_store)
    assert contents(tmp_path / "copy") == before
    assert verify(tmp_path / "copy").problems == ()


def test_copied_where_links_cannot_be_made(flat_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_links)
    report = snapshot(flat_store, f"file://{tmp_path / 'copy'}")
    assert (report.files_linked, report.bytes_sent) == (0, report.bytes)
    assert contents(tmp_path / "copy") == contents(flat_store)


def test_an_interrupted_snapshot_is_none(
    flat_store: Path, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = 20

    def interrupted(place: Place, store: Path, record: FileRecord) -> bool:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return taken(place, store, record)

    kind = type(open_place(target))
    taken = kind.take
    with monkeypatch.context() as patched:
        patched.setattr(kind, "take", interrupted)
        with pytest.raises(KeyboardInterrupt):
            snapshot(flat_store, target)
    with pytest.raises(NotFound, match="no snapshot"):
        restore(target, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    report = snapshot(flat_store, target)
    assert report.files_sent == (report.files - 20 if kind is Folder else report.files)
    restore(target, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(flat_store)


def test_an_interrupted_restore_is_gone_on_with(
    flat_store: Path, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot(flat_store, target)
    left = 20

    def interrupted(place: Place, store: Path, record: FileRecord) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        given(place, store, record)

    kind = type(open_place(target))
    given = kind.give
    with monkeypatch.context() as patched:
        patched.setattr(kind, "give", interrupted)
        with pytest.raises(KeyboardInterrupt):
            restore(target, tmp_path / "back")
    with pytest.raises(NotFound):
        read_manifest(tmp_path / "back")
    report = restore(target, tmp_path / "back")
    assert report.files_sent == report.files - 20
    assert contents(tmp_path / "back") == contents(flat_store)


def test_damage_is_not_copied(flat_store: Path, target: str) -> None:
    path = flat_store / "segments" / "00000001-000002" / "columns.arrow"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataLoss, match=str(path)):
        snapshot(flat_store, target)
    assert "manifest.json" not in at(target)


def test_a_damaged_snapshot_is_not_restored(flat_store: Path, tmp_path: Path) -> None:
    import fsspec

    snapshot(flat_store, "memory://snapshots/damaged")
    files = fsspec.filesystem("memory")
    name = "/snapshots/damaged/segments/00000001-000001/vectors.f16"
    content = bytearray(files.cat_file(name))
    content[7] ^= 1
    files.pipe_file(name, bytes(content))
    with pytest.raises(DataLoss, match=r"vectors.f16.tmp has the checksum"):
        restore("memory://snapshots/damaged", tmp_path / "back")
    assert not (tmp_path / "back" / "manifest.json").exists()
    files.rm_file(name)
    with pytest.raises(DataLoss, match=r"vectors.f16 is missing"):
        restore("memory://snapshots/damaged", tmp_path / "back")
    files.rm("/snapshots/damaged", recursive=True)


def test_refusals(flat_store: Path, ivf_store: Path, tmp_path: Path) -> None:
    snapshot(flat_store, str(tmp_path / "copy"))
    with pytest.raises(AlreadyExists, match="of the datastore"):
        snapshot(ivf_store, str(tmp_path / "copy"))
    with pytest.raises(AlreadyExists, match="holds a datastore"):
        restore(str(tmp_path / "copy"), ivf_store)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("do not lose")
    with pytest.raises(AlreadyExists, match=r"thesis\.txt"):
        snapshot(flat_store, str(tmp_path / "mine"))
    with pytest.raises(AlreadyExists, match=r"thesis\.txt"):
        restore(str(tmp_path / "copy"), tmp_path / "mine")
    with pytest.raises(NotFound, match="no snapshot"):
        restore(str(tmp_path / "nothing"), tmp_path / "new")
    for inside in (flat_store, flat_store / "backup"):
        with pytest.raises(InvalidArgument, match="lies in the store"):
            snapshot(flat_store, str(inside))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_what_is_newer_is_not_replaced(flat_store: Path, tmp_path: Path) -> None:
    copy = str(tmp_path / "copy")
    snapshot(flat_store, copy)
    delete(tmp_path / "copy", document_ids=["d1"])  # somebody works with the snapshot
    with pytest.raises(AlreadyExists, match=r"holds generation 2 .* is at generation 1"):
        snapshot(flat_store, copy)
    delete(flat_store, document_ids=["d2"])
    with pytest.raises(AlreadyExists, match="holds another generation 2"):
        snapshot(flat_store, copy)
    assert read_manifest(tmp_path / "copy").documents == 59
    delete(flat_store, document_ids=["d3"])
    snapshot(flat_store, copy)
    snapshot(flat_store, copy)
    assert verify(tmp_path / "copy").problems == ()


def test_a_store_from_before_generations_were_kept(flat_store: Path, tmp_path: Path) -> None:
    shutil.rmtree(flat_store / "generations")
    snapshot(flat_store, str(tmp_path / "copy"))
    assert (tmp_path / "copy" / "manifest.json").read_bytes() == (flat_store / "manifest.json").read_bytes()


def test_restored_from_s3(flat_store: Path, tmp_path: Path) -> None:
    """Over S3's protocol, in a process of its own: Arrow reads credentials from the environment once."""
    objects = {f"bucket/backup/{name}": content for name, content in contents(flat_store).items()}
    program = "import sys; from pathlib import Path; from datastore.snapshots.snapshot import restore; "
    program += "restore('s3://bucket/backup', Path(sys.argv[1]))"
    with serving(objects) as server:
        environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": server,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        subprocess.run([sys.executable, "-c", program, str(tmp_path / "back")], env=environment, check=True)
    assert contents(tmp_path / "back") == contents(flat_store)


def test_places() -> None:
    assert isinstance(open_place("some/folder"), Folder)
    assert isinstance(open_place("file:///some/folder"), Folder)
    assert isinstance(open_place("memory://x"), places.Remote)
