from __future__ import annotations

import os
from pathlib import Path

import pytest

from datastore.errors import DataLoss, InvalidArgument, NotFound, PergamonError
from datastore.sources.inputs import open_inputs
from datastore.sources.registry import EXTENSIONS
from datastore.sources.rejects import Rejects


def read_ids(*inputs: Path | str) -> list[str]:
    with Rejects(Path(os.devnull)) as rejects:
        ids = [document.document_id for document in open_inputs([str(value) for value in inputs], rejects)]
    assert rejects.total == 0
    return ids


@pytest.mark.parametrize(
    ("make", "error", "problem"),
    [
        (lambda f: [], InvalidArgument, "no input was given"),
        (lambda f: [""], InvalidArgument, "an input is empty"),
        (lambda f: [f / "absent"], NotFound, "there is no file or folder .*absent"),
        (lambda f: [f / "data.docx"], InvalidArgument, r"data\.docx' cannot be read; wanted a folder, or a file"),
        (lambda f: [f / "data.json.bz2"], InvalidArgument, r"data\.json\.bz2' cannot be read"),
        (lambda f: [f / "empty"], InvalidArgument, "the folder .*empty' holds no file ending in .jsonl"),
        (lambda f: [f / ("x" * 5000)], InvalidArgument, "cannot be read: File name too long"),
        (lambda f: [f / "good.txt", f / "absent"], NotFound, "absent"),
        (lambda f: ["pydoc:json,nosuch"], NotFound, "no module 'nosuch'"),
        (lambda f: ["pydoc:0"], InvalidArgument, r"limits \[0\]"),
        (lambda f: ["pydoc:5,6"], InvalidArgument, r"limits \[5, 6\]"),
    ],
    ids=["none", "blank", "absent", "kind", "json.bz2", "empty", "long", "second", "module", "zero", "two limits"],
)
def test_a_wrong_input_is_refused_before_any_document(
    make: object, error: type[PergamonError], problem: str, tmp_path: Path
) -> None:
    assert callable(make)
    for name in ("data.docx", "data.json.bz2", "good.txt"):
        (tmp_path / name).write_text("text")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "image.png").touch()
    with pytest.raises(error, match=problem) as caught:
        open_inputs([str(value) for value in make(tmp_path)], Rejects(tmp_path / "rejects"))
    assert caught.value.field == "input"
    assert caught.value.mend


def test_a_folder_is_read_in_the_order_of_names_whatever_the_order_of_making(tmp_path: Path) -> None:
    names = ["z.txt", "a/z.md", "a.txt", "é.txt", "B.txt", "a/b/c.txt", "10.txt", "9.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    expected = ["10.txt", "9.txt", "B.txt", "a/b/c.txt", "a/z.md", "a.txt", "z.txt", "é.txt"]
    assert read_ids(tmp_path) == expected


def test_a_folder_that_vanishes_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.txt").write_text("text")
    documents = open_inputs([str(folder)], Rejects(tmp_path / "rejects"))
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(DataLoss, match=r"folder/a.txt cannot be read: No such file"):
        next(documents)


@pytest.mark.parametrize("name", ["pipe.jsonl", "zero.txt"])
def test_what_has_no_end_is_refused_and_passed_over_in_folders(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    with pytest.raises(InvalidArgument, match=rf"{name}' is neither a file nor a folder: a pipe or a device"):
        read_ids(tmp_path / name)
    assert read_ids(tmp_path) == ["a.txt"]


def test_links_in_a_folder_are_not_followed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / f"{folder.name}.txt").write_text("text")
    (inside / "loop").symlink_to(inside)
    (inside / "folder").symlink_to(outside)
    (inside / "file.txt").symlink_to(outside / "outside.txt")
    assert read_ids(inside) == ["inside.txt"]


def test_a_link_given_as_input_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.txt").write_text("text")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert read_ids(tmp_path / "link") == ["a.txt"]


@pytest.mark.parametrize("inputs", [["scifact"], ["."]], ids=["given", "found in a folder"])
def test_a_beir_folder_names_the_source(inputs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scifact").mkdir()
    (tmp_path / "scifact" / "corpus.jsonl").write_text('{"_id": 4983, "title": "A title", "text": ""}\n')
    (tmp_path / "scifact" / "queries.jsonl").write_text('{"_id": "1", "text": "a query"}\n')
    monkeypatch.chdir(tmp_path)
    (document,) = open_inputs(inputs, Rejects(tmp_path / "rejects"))
    assert (document.document_id, document.title, document.source) == ("4983", "A title", "scifact")


def test_an_extension_is_matched_whole_and_in_any_case(tmp_path: Path) -> None:
    for name in ("A.B.JSONL", "c.txt.bak", "d.jsonl.bz2", "jsonl", ".txt"):
        (tmp_path / name).write_text('{"id": "a", "text": "x"}')
    assert read_ids(tmp_path) == ["a"]
    assert all(extension == extension.lower() for extension in EXTENSIONS)


def test_text_is_kept_byte_for_byte_but_for_the_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\x85\n".replace(b"\x85", "\u2028".encode()))
    (document,) = open_inputs([str(tmp_path / "a.txt")], Rejects(tmp_path / "rejects"))
    assert document.text == "one\r\ntwo\u2028\n"
    assert (document.document_id, document.title, document.source) == ("a.txt", "", "a.txt")


def test_a_file_name_that_is_not_utf8_is_rejected(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    try:
        Path(os.fsdecode(path)).write_text("text")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with Rejects(tmp_path / "rejects") as rejects:
        assert list(open_inputs([str(tmp_path)], rejects)) == []
    assert rejects.by_reason == {"lone surrogate": 1}
    assert "caf\\\\udce9.txt" in (tmp_path / "rejects").read_text()


@pytest.mark.parametrize(("name", "documents"), [("scifact", 5_183), ("cacm", 3_204), ("vaswani", 11_429)])
def test_published_collections_are_read_whole(name: str, documents: int) -> None:
    folder = Path(os.environ.get("PERGAMON_DATA", "")) / name
    if "PERGAMON_DATA" not in os.environ or not folder.is_dir():
        pytest.skip(f"PERGAMON_DATA names no folder with the collection {name}")
    assert len(set(read_ids(folder))) == documents
