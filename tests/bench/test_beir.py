"""Judged queries are read as they are, or the line at fault is named."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.beir import read_judged
from datastore.errors import InvalidArgument, NotFound

QUERIES = (
    b'{"_id": "q1", "text": "one"}\n{"_id": "q2", "text": "two", "metadata": {}}\n{"_id": "q3", "text": "three"}\n'
)
QRELS = b"query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td 2\t0\nq3\td1\t-1\n"
MakeFolder = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> MakeFolder:
    def make(queries: bytes = QUERIES, qrels: bytes = QRELS, name: str = "queries.jsonl") -> Path:
        (tmp_path / "qrels").mkdir()
        (tmp_path / "qrels" / "test.tsv").write_bytes(qrels)
        (tmp_path / name).write_bytes(queries)
        return tmp_path

    return make


def test_queries_with_judgments(folder: MakeFolder) -> None:
    judged = read_judged(folder(), "test")
    assert judged.queries == {"q1": "one", "q3": "three"}
    assert judged.qrels == {"q1": {"d1": 2, "d 2": 0}, "q3": {"d1": -1}}


@pytest.mark.parametrize(
    "qrels",
    [b"q1\td1\t2\n", b"q1\td1\t2", b"\nq1\td1\t2\r\n\n", b"query-id\tcorpus-id\tscore\n\nq1\td1\t2\n"],
)
def test_header_and_blank_lines_are_optional(folder: MakeFolder, qrels: bytes) -> None:
    assert read_judged(folder(qrels=qrels), "test").qrels == {"q1": {"d1": 2}}


def test_compressed_queries(folder: MakeFolder) -> None:
    assert read_judged(folder(gzip.compress(QUERIES), name="queries.jsonl.gz"), "test").queries["q1"] == "one"


@pytest.mark.parametrize("split", ["dev", "test.tsv", ""])
def test_a_split_that_is_not_there_names_those_that_are(folder: MakeFolder, split: str) -> None:
    with pytest.raises(NotFound, match=r"there are test$|there are test;") as caught:
        read_judged(folder(), split)
    assert caught.value.field == "split"


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there are none"):
        read_judged(tmp_path, "test")
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_bytes(QRELS)
    with pytest.raises(NotFound, match=r"no queries\.jsonl"):
        read_judged(tmp_path, "test")


@pytest.mark.parametrize(
    "line",
    [b"{", b'["_id"]', b'{"_id": "q1"}', b'{"text": "one"}', b"7", json.dumps("q1").encode()],
)
def test_a_query_that_is_none_is_named_by_its_line(folder: MakeFolder, line: bytes) -> None:
    with pytest.raises(InvalidArgument, match=r"queries\.jsonl line 4 is not an object"):
        read_judged(folder(QUERIES + line + b"\n"), "test")


@pytest.mark.parametrize("line", [b"q1\td1", b"q1\td1\thigh", b"q1 d1 1", b"q1\t0\td1\t1", b"q1\td1\t0.5"])
def test_a_judgment_that_is_none_is_named_by_its_line(folder: MakeFolder, line: bytes) -> None:
    with pytest.raises(InvalidArgument, match=r"test\.tsv line 5 is 'q1"):
        read_judged(folder(qrels=QRELS + line + b"\n"), "test")


def test_no_judgments(folder: MakeFolder) -> None:
    with pytest.raises(InvalidArgument, match="has no judgments"):
        read_judged(folder(qrels=b"query-id\tcorpus-id\tscore\n"), "test")


def test_a_judged_query_without_text(folder: MakeFolder) -> None:
    with pytest.raises(InvalidArgument, match=r"1 judged queries are not in queries\.jsonl, the first is 'q9'"):
        read_judged(folder(qrels=QRELS + b"q9\td1\t1\n"), "test")


@pytest.mark.parametrize(
    ("queries", "name"),
    [
        (b"\xff\xfe", "queries.jsonl"),
        (gzip.compress(QUERIES, mtime=0)[:-12], "queries.jsonl.gz"),
        (QUERIES, "queries.jsonl.gz"),
        (gzip.compress(QUERIES, mtime=0)[:12] + b"\xff" * 40, "queries.jsonl.gz"),
    ],
)
def test_damaged_files(folder: MakeFolder, queries: bytes, name: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot be read as UTF-8 text"):
        read_judged(folder(queries, name=name), "test")
