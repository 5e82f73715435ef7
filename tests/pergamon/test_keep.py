"""`pergamon add`, `update`, `delete` and `compact`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.pergamon.conftest import Run


def write(path: Path, *records: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def found(run: Run, store: Path, query: str, mode: str = "hybrid") -> list[str]:
    done = run("search", store, query, "-k", "100", "--mode", mode, "--json")
    assert done.status == 0, done
    return [hit["document_id"] for hit in json.loads(done.stdout)["hits"]]


def done_json(run: Run, *arguments: object) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.status == 0, done
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def test_a_datastore_lives(run: Run, copy: Path, tmp_path: Path) -> None:
    source = write(
        tmp_path / "more.jsonl",
        {"_id": "zeppelin", "text": "A zeppelin over the granite harbour."},
        {"_id": "harbour", "text": "This was there before."},
    )
    added = done_json(run, "add", copy, "--input", source)
    assert (added["generation"], added["documents"], added["documents_added"]) == (2, 31, 1)
    assert (added["duplicates"], added["rejected_by_reason"]) == (1, {"duplicate id": 1})
    assert "'harbour'" in Path(added["rejects_file"]).read_text()

    updated = done_json(run, "update", copy, "--input", source)
    assert (updated["generation"], updated["documents"], updated["documents_replaced"]) == (3, 31, 2)
    assert found(run, copy, "before", "bm25") == ["harbour"]

    ids = tmp_path / "ids"
    ids.write_text('zeppelin\n\n{"id": "note-3"}\nno such document\r\n')
    deleted = done_json(run, "delete", copy, "--document-ids", ids)
    assert (deleted["generation"], deleted["documents_deleted"], deleted["unknown"]) == (4, 2, 1)
    deleted = done_json(run, "delete", copy, "--where", "year >= 2000")
    assert (deleted["generation"], deleted["documents_deleted"]) == (5, 19)
    left = {"harbour", *(f"note-{i}" for i in range(10) if i != 3)}
    assert set(found(run, copy, "note zeppelin")) == left

    info = done_json(run, "info", copy)  # the segments of which nothing was left are gone already
    assert (info["documents"], info["deleted_documents"], info["generation"]) == (10, 2, 5)
    compacted = done_json(run, "compact", copy)
    assert (compacted["generation"], compacted["documents"], compacted["held_generations"]) == (6, 10, 0)
    assert (compacted["passages_removed"], compacted["retrained"]) == (info["deleted_passages"], False)
    assert set(found(run, copy, "note", "dense")) == left
    verified = done_json(run, "verify", copy)
    assert (verified["problems"], verified["orphans"]) == ([], [])
    assert b"zeppelin" not in b"".join(path.read_bytes() for path in copy.rglob("*") if path.is_file())


def test_what_people_are_told(run: Run, copy: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "more.jsonl", {"_id": "x", "text": "A zeppelin."}, {"_id": "note-1", "text": "Known."})
    said = run("add", copy, "--input", source)
    assert (said.status, said.stdout) == (0, "")
    assert "left out 1 documents whose ids the datastore has: pergamon update" in said.stderr
    assert "added 1 documents (1 passages)" in said.stderr
    assert "now generation 2 with 31 passages" in said.stderr
    said = run("update", copy, "--input", source)
    assert "added 2 documents (2 passages), 2 of them in the place of older ones" in said.stderr
    ids = tmp_path / "ids.txt"
    ids.write_text("x\n" + "".join(f"unknown-{i}\n" for i in range(7)))
    said = run("delete", copy, "--document-ids", ids)
    assert "not in the datastore: 7 ids: 'unknown-0', 'unknown-1'" in said.stderr
    assert "deleted 1 documents (1 passages)" in said.stderr
    assert "deleted" in run("info", copy).stdout
    said = run("compact", copy)
    assert (said.status, said.stdout) == (0, "")
    assert "2 deleted passages are gone" in said.stderr
    assert "is compact already, at generation 5" in run("compact", copy).stderr


@pytest.mark.parametrize("command", [["delete"], ["delete", "--document-ids", "x", "--where", "year = 1"], ["add"]])
def test_wrong_usage(run: Run, store: Path, command: list[str]) -> None:
    assert run(command[0], store, *command[1:]).status == 2


def test_errors_are_one_line(run: Run, copy: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "more.jsonl", {"_id": "x", "text": "A zeppelin."})
    nowhere = tmp_path / "nowhere"
    bytes_of_ids = tmp_path / "bytes.txt"
    bytes_of_ids.write_bytes(b"good\n\xff\n")
    for arguments, wanted in (
        (["add", nowhere, "--input", source], "no datastore at"),
        (["add", copy, "--input", nowhere], "nowhere"),
        (["add", copy, "--input", source, "--encoder", "all-minilm-l6-v2"], "encoder"),
        (["delete", nowhere, "--where", "year = 1"], "no datastore at"),
        (["delete", copy, "--document-ids", nowhere], "there is no file"),
        (["delete", copy, "--document-ids", bytes_of_ids], "line 2 of"),
        (["delete", copy, "--where", "year ="], "where ends too early"),
        (["compact", nowhere], "no datastore at"),
        (["compact", copy, "--device", "abacus"], "device"),
    ):
        assert wanted in run(*arguments).error(), arguments
    assert not nowhere.exists()
    assert done_json(run, "info", copy)["generation"] == 1
