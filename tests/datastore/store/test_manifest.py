from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datastore.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, PergamonError
from datastore.store.checksums import FileRecord, hash_bytes
from datastore.store.manifest import FORMAT_VERSION, Manifest, RejectSummary, publish, read_manifest

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def manifest(flat_store: Path) -> Manifest:
    return read_manifest(flat_store)


def write_tree(store: Path, tree: dict[str, Any]) -> Path:
    """A manifest whose checksum is right, whatever it says."""
    path = store / "manifest.json"
    text = json.dumps(tree | {"manifest_xxh3_128": "0" * 32})
    path.write_text(text.replace("0" * 32, hash_bytes(text.encode())))
    return path


def test_round_trip(manifest: Manifest, tmp_path: Path) -> None:
    odd = FileRecord('a "manifest_xxh3_128": "' + "0" * 32 + '" é\u2028😀.jsonl', 7, "f" * 32)
    full = replace(manifest, generation=7, rejects=RejectSummary(3, {"not JSON": 3}, odd), template=odd)
    publish(tmp_path, full)
    assert read_manifest(tmp_path) == full
    publish(tmp_path, replace(read_manifest(tmp_path), generation=8))
    assert read_manifest(tmp_path) == replace(full, generation=8)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["manifest.json"]


def test_counts_and_files(manifest: Manifest) -> None:
    assert manifest.passages == manifest.documents == 60
    assert [segment.passages for segment in manifest.segments] == [13, 13, 13, 13, 8]
    assert len({record.path for record in manifest.files()}) == len(manifest.files()) > 5 * 4


@pytest.mark.parametrize("bits", [0x01, 0x20, 0xFF])
def test_every_changed_byte_is_found(manifest: Manifest, tmp_path: Path, bits: int) -> None:
    publish(tmp_path, replace(manifest, segments=manifest.segments[:1]))
    path = tmp_path / "manifest.json"
    data = path.read_bytes()
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= bits
        path.write_bytes(changed)
        with pytest.raises((DataLoss, FailedPrecondition)) as caught:
            read_manifest(tmp_path)
        assert str(path) in caught.value.problem
        assert caught.value.mend


def test_every_truncation_is_found(manifest: Manifest, tmp_path: Path) -> None:
    publish(tmp_path, replace(manifest, segments=()))
    path = tmp_path / "manifest.json"
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(DataLoss, match=str(path)):
            read_manifest(tmp_path)
    path.write_bytes(data + b"\n")
    with pytest.raises(DataLoss, match=str(path)):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"format": "pergamon"'])
def test_not_a_json_object(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(DataLoss, match=str(tmp_path / "manifest.json")):
        read_manifest(tmp_path)


def test_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(NotFound, match=f"no datastore at {path}") as caught:
            read_manifest(path)
        assert "pergamon build" in caught.value.mend


def test_a_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(InvalidArgument, match=str(tmp_path / "manifest.json")):
        read_manifest(tmp_path)


@pytest.mark.parametrize("version", [0, 2, "1", None, 1.5, [1]])
def test_another_format_version(manifest: Manifest, tmp_path: Path, version: object) -> None:
    publish(tmp_path, manifest)
    tree = json.loads((tmp_path / "manifest.json").read_bytes()) | {"format_version": version, "unknown": 1}
    path = write_tree(tmp_path, tree)
    with pytest.raises(FailedPrecondition) as caught:
        read_manifest(tmp_path)
    assert str(path) in caught.value.problem
    assert repr(version) in caught.value.problem
    assert f"reads version {FORMAT_VERSION}" in caught.value.problem


@pytest.mark.parametrize("features", [["spilled-lists"], ["spilled-lists", "deletions"], "spilled-lists"])
def test_an_unknown_required_feature(manifest: Manifest, tmp_path: Path, features: object) -> None:
    publish(tmp_path, manifest)
    write_tree(tmp_path, json.loads((tmp_path / "manifest.json").read_bytes()) | {"required_features": features})
    with pytest.raises(FailedPrecondition, match="spilled-lists"):
        read_manifest(tmp_path)


def test_another_format(tmp_path: Path) -> None:
    path = write_tree(tmp_path, {"format": "lance"})
    with pytest.raises(FailedPrecondition, match=f"{path} is of format 'lance'"):
        read_manifest(tmp_path)


def _set(*path: str | int, value: object) -> Edit:
    def edit(tree: dict[str, Any]) -> None:
        target: Any = tree
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value

    return edit


def _drop(key: str) -> Edit:
    def edit(tree: dict[str, Any]) -> None:
        del tree[key]

    return edit


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (_set("generation", value="first"), "generation"),
        (_set("segments", 0, "passages", value=None), "segments.0.passages"),
        (_set("segments", 0, "files", value={"a": 1}), "segments.0.files"),
        (_set("index", "kind", value="hnsw"), "index.kind"),
        (_set("config", "chunk", "sentences", value=3), "config.chunk.sentences"),
        (_drop("encoder"), "encoder"),
    ],
)
def test_values_of_another_program(manifest: Manifest, tmp_path: Path, edit: Edit, named: str) -> None:
    publish(tmp_path, manifest)
    tree = json.loads((tmp_path / "manifest.json").read_bytes())
    edit(tree)
    path = write_tree(tmp_path, tree)
    with pytest.raises(FailedPrecondition) as caught:
        read_manifest(tmp_path)
    assert str(path) in caught.value.problem
    assert f": {named}: " in caught.value.problem
    assert manifest.writer in caught.value.problem


def test_unknown_fields_are_ignored(manifest: Manifest, tmp_path: Path) -> None:
    publish(tmp_path, manifest)
    tree = json.loads((tmp_path / "manifest.json").read_bytes()) | {"comment": "added by a later version"}
    write_tree(tmp_path, tree)
    assert read_manifest(tmp_path) == manifest


def test_errors_are_one_line(manifest: Manifest, tmp_path: Path) -> None:
    publish(tmp_path, manifest)
    (tmp_path / "manifest.json").write_bytes(b'{"format": "a\\nb"}')
    with pytest.raises(PergamonError) as caught:
        read_manifest(tmp_path)
    assert "\n" not in str(caught.value)
