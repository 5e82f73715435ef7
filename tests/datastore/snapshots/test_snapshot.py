"""A snapshot is the store, byte for byte, wherever it lies; what was interrupted is none, and is gone on with."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from datastore.build import build
from datastore.config import load_config
from datastore.errors import AlreadyExists, DataLoss, InvalidArgument, NotFound
from datastore.exchange.export import export
from datastore.keeping.addition import add
from datastore.keeping.compaction import compact
from datastore.keeping.deletion import delete
from datastore.snapshots import places
from datastore.snapshots.places import Folder, Place, open_place
from datastore.snapshots.snapshot import restore, snapshot
from datastore.sources.places import file_system
from datastore.store.checksums import FileRecord
from datastore.store.manifest import read_manifest
from datastore.verify import verify


@pytest.fixture(params=["folder", "memory", "s3"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place of each kind, empty."""
    if request.param == "folder":
        return str(tmp_path / "snapshots")
    if request.param == "s3":
        return str(request.getfixturevalue("bucket"))
    import fsspec

    files = fsspec.filesystem("memory")
    if files.exists("/snapshots"):
        files.rm("/snapshots", recursive=True)
    return "memory://snapshots"


@pytest.fixture
def bucket(s3: Path, tmp_path: Path) -> str:
    assert s3.is_dir()
    return f"s3://snapshots/a copy of/{tmp_path.name}"


def contents(store: Path) -> dict[str, bytes]:
    """All files but the lock, which is nobody's content."""
    files = (path for path in store.rglob("*") if path.is_file() and path.name != "write.lock")
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in files}


def at(target: str) -> set[str]:
    """Paths of the files of a place."""
    if "://" not in target:
        return set(contents(Path(target)))
    system, root = file_system(target)
    return {name.removeprefix(f"{root}/") for name in system.find(root)}


def damage(target: str) -> None:
    """Change a bit of an object of a snapshot at a service."""
    system, root = file_system(target)
    path = f"{root}/segments/00000001-000001/vectors.f16"
    content = bytearray(system.cat_file(path))
    content[7] ^= 1
    with system.open(path, "wb") as file:
        file.write(content)


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
    # Where it deletes, Arrow's client makes an empty object for the folder, which rclone makes a file: no more of that.
    if not target.startswith("s3:"):
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


def test_a_damaged_snapshot_is_not_restored(flat_store: Path, bucket: str, tmp_path: Path) -> None:
    snapshot(flat_store, bucket)
    damage(bucket)
    with pytest.raises(DataLoss, match=r"vectors.f16.tmp has the checksum"):
        restore(bucket, tmp_path / "back")
    assert not (tmp_path / "back" / "manifest.json").exists()
    system, _ = file_system("memory://torn")
    snapshot(flat_store, "memory://torn")
    system.rm_file("/torn/segments/00000001-000001/vectors.f16")
    with pytest.raises(DataLoss, match=r"vectors.f16 is missing"):
        restore("memory://torn", tmp_path / "back")


def test_damage_at_a_service_is_found_and_mended_on_request(flat_store: Path, bucket: str, tmp_path: Path) -> None:
    snapshot(flat_store, bucket)
    damage(bucket)
    assert snapshot(flat_store, bucket).files_sent == 0
    assert snapshot(flat_store, bucket, check=True).files_sent == 1
    assert snapshot(flat_store, bucket, check=True).files_sent == 0
    restore(bucket, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(flat_store)


def test_what_a_service_changes_on_the_way_is_found(flat_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, _ = file_system("memory://changed")

    class Changing(type(system.open("/any", "wb"))):  # type: ignore[misc]
        """A file whose first byte gets lost on the way."""

        def write(self, data: bytes) -> int:
            return int(super().write(b"?" + data[1:]))

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFile", Changing)
    with pytest.raises(DataLoss, match=r"is not what was sent: wanted \d+ bytes with the checksum"):
        snapshot(flat_store, "memory://changed", check=True)


def test_a_bucket_that_is_not_there(flat_store: Path, s3: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such bucket: 's3://no-such-bucket/x'"):
        snapshot(flat_store, "s3://no-such-bucket/x")
    with pytest.raises(NotFound, match="no snapshot"):
        restore("s3://no-such-bucket/x", tmp_path / "back")
    assert not (s3 / "no-such-bucket").exists()


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


def test_a_url_where_a_folder_is_wanted_makes_no_folder_of_that_name(
    flat_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot(flat_store, str(tmp_path / "copy"))
    source = more(tmp_path, 0)
    monkeypatch.chdir(tmp_path)
    for write in (
        lambda folder: restore(str(tmp_path / "copy"), folder),
        lambda folder: export(flat_store, folder),
        lambda folder: build([source], folder, load_config(None, {"encoder": {"name": "hashing"}})),
    ):
        with pytest.raises(InvalidArgument, match=r"s3:/bucket/x looks like a URL; wanted a folder of this machine"):
            write(Path("s3://bucket/x"))
    assert not (tmp_path / "s3:").exists()


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


def test_places() -> None:
    assert isinstance(open_place("some/folder"), Folder)
    assert isinstance(open_place("file:///some/folder"), Folder)
    assert isinstance(open_place("memory://x"), places.Remote)
