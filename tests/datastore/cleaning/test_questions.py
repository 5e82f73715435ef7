from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import zstandard

from datastore.cleaning.questions import Question, read_questions
from datastore.errors import InvalidArgument, NotFound

LINES = [
    {"_id": "q1", "text": "Who?", "answers": ["I"]},
    {"question": "Where is it?", "text": "a passage"},
    {"query": "Why?"},
]
TEXT = "".join(json.dumps(line) + "\n\n" for line in LINES)


@pytest.mark.parametrize("name", ["queries.jsonl", "q.jsonl.gz", "q.jsonl.zst"])
def test_json_lines_as_beir_and_others_have_them(tmp_path: Path, name: str) -> None:
    data = TEXT.encode()
    packed = gzip.compress(data) if name.endswith("gz") else zstandard.compress(data) if name.endswith("zst") else data
    (tmp_path / name).write_bytes(packed)
    found = read_questions([str(tmp_path / name)])
    assert found == [Question("Who?", name, 1), Question("Where is it?", name, 3), Question("Why?", name, 5)]


def test_plain_lines_and_several_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" Who is it? \n\nWhere?")
    (tmp_path / "b.jsonl").write_text(TEXT)
    found = read_questions([str(tmp_path / "a.txt"), str(tmp_path / "b.jsonl")])
    assert [(q.text, q.line) for q in found][:2] == [("Who is it?", 1), ("Where?", 3)]
    assert len(found) == 5


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("a.jsonl", b"{}\n", "in line 1"),
        ("a.jsonl", b'{"text": 3}\n', "in line 1"),
        ("a.jsonl", b'{"text": "good"}\nbad\n', "no JSON in line 2"),
        ("a.jsonl", b"[" * 100_000, "no JSON in line 1"),
        ("a.jsonl", b"\n", "holds no question"),
        ("a.txt", b"", "holds no question"),
        ("a.txt", b"\xff\xfe", "is not UTF-8"),
        ("a.jsonl.gz", b"no archive", "cannot be read"),
        ("a.jsonl.gz", gzip.compress(TEXT.encode(), mtime=0)[:-12], "cannot be read"),
        ("a.jsonl.zst", b"no archive", "cannot be read"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, name: str, data: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidArgument, match=problem):
        read_questions([str(tmp_path / name)])


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file of questions"):
        read_questions([str(tmp_path / "gone.jsonl")])
    with pytest.raises(InvalidArgument, match="cannot be read"):
        read_questions([str(tmp_path)])
