from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datastore.config import InputConfig
from datastore.documents import Document
from datastore.sources.inputs import open_inputs
from datastore.sources.rejects import Rejects

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        name: st.text(st.characters()) | JSON for name in ("_id", "id", "text", "title", "source", "metadata", "x")
    },
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jsonl")


def read(path: Path, content: bytes, **options: Any) -> tuple[list[Document], list[dict[str, Any]]]:
    path.write_bytes(content)
    rejects_path = path.with_suffix(".rejects")
    rejects_path.unlink(missing_ok=True)
    with Rejects(rejects_path) as rejects:
        documents = list(open_inputs([str(path)], rejects, InputConfig(**options)))
    records = [json.loads(line) for line in rejects_path.read_bytes().split(b"\n")[:-1]] if rejects.total else []
    assert len(records) == rejects.total
    return documents, records


def read_one(path: Path, record: dict[str, Any]) -> Document:
    (document,), rejected = read(path, json.dumps(record).encode())
    assert rejected == []
    return document


def test_every_field_has_its_place(tmp_path: Path) -> None:
    record = {
        "_id": 31,
        "id": "other",
        "title": "A title",
        "text": "Some text",
        "source": "wiki",
        "year": 1999,
        "score": 0.5,
        "draft": False,
        "none": None,
        "tags": ["a", {"b": "é"}],
        "metadata": {"lang": "en", "year": 1, "deep": {"x": [1, None]}, "none": None},
        "attributes": {"lang": "fr"},
        "huge": 1 << 70,
        "nan": float("nan"),
        "infinities": [float("inf"), 1],
    }
    document = read_one(tmp_path / "x.jsonl", record)
    assert (document.document_id, document.title, document.text, document.source) == (
        "31",
        "A title",
        "Some text",
        "wiki",
    )
    assert document.attributes == {
        "id": "other",
        "lang": "fr",
        "year": 1999,
        "deep": '{"x":[1,null]}',
        "score": 0.5,
        "draft": False,
        "tags": '["a",{"b":"é"}]',
        "huge": str(1 << 70),
        "infinities": "[null,1]",
    }


def test_what_is_absent_has_a_default(tmp_path: Path) -> None:
    document = read_one(
        tmp_path / "x.jsonl", {"text": "t", "id": None, "title": None, "source": "", "metadata": "free"}
    )
    assert document == Document("x.jsonl:1", "t", "", "x.jsonl", {"metadata": "free"})


def test_generated_ids_count_blank_and_bad_lines(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.jsonl").write_bytes(b'\r\n \n{"text": "one"}\nbad\n{"text": "two"}')
    with Rejects(tmp_path / "rejects") as rejects:
        documents = list(open_inputs([str(tmp_path)], rejects))
    assert [document.document_id for document in documents] == ["sub/x.jsonl:3", "sub/x.jsonl:5"]
    assert rejects.by_reason == {"not JSON": 1}


def test_byte_order_mark_crlf_and_line_separators_inside_strings(tmp_path: Path) -> None:
    content = '\ufeff{"id": "1", "text": "a\u2028b\u0085c"}\r\n{"id": "2", "text": "d"}\r\n'.encode()
    documents, rejected = read(tmp_path / "x.jsonl", content)
    assert [document.text for document in documents] == ["a\u2028b\u0085c", "d"]
    assert rejected == []


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (b"{", "not JSON", "Expecting property name enclosed in double quotes at column 2"),
        (b'{"text": "a"} trailing', "not JSON", "Extra data at column 15"),
        (b'{"text": "a\tb"}', "not JSON", "Invalid control character at at column 12"),
        (b'{"text": ' + b"9" * 5000 + b"}", "not JSON", "Exceeds the limit"),
        (b'{"text": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not JSON", "nested too deeply"),
        (b'"text"', "not an object", "the line is a string; wanted an object"),
        (b"null", "not an object", "the line is null"),
        (b'{"text": "\xff"}', "not UTF-8", "byte 11 of the line is 0xff"),
        ('{"text": "utf-16"}'.encode("utf-16-le"), "not JSON", ""),
        ('{"text": "utf-16"}'.encode("utf-16"), "not UTF-8", "byte 1 of the line is 0xff, with which UTF-16 begins"),
        (b'{"id": "a"}', "no text", "the field 'text' is missing"),
        (b'{"id": "a", "text": null, "title": "t"}', "no text", "the field 'text' is missing"),
        (b'{"id": "a", "text": " ", "title": "\\n"}', "no text", "text and title are blank"),
        (b'{"id": "a", "text": ["x"]}', "wrong type", "'text' is a list; wanted a string"),
        (b'{"id": "a", "text": "x", "title": 1.5}', "wrong type", "'title' is a number; wanted a string"),
        (b'{"id": "a", "text": "x", "source": {}}', "wrong type", "'source' is an object; wanted a string"),
        (b'{"id": true, "text": "x"}', "wrong type", "'id' is a boolean; wanted a string or an integer"),
        (b'{"_id": 1.0, "id": "a", "text": "x"}', "wrong type", "'_id' is a number"),
        (b'{"id": "", "text": "x"}', "bad id", "the id is blank"),
        (b'{"id": "a\\u0000", "text": "x"}', "bad id", "contains a NUL"),
        (json.dumps({"id": "é" * 257, "text": "x"}).encode(), "bad id", "514 bytes; at most 512"),
        (b'{"id": "a", "text": "\\ud83d"}', "lone surrogate", "U+D83D is no character"),
        (b'{"id": "\\udc00", "text": "x"}', "lone surrogate", "U+DC00"),
        (b'{"id": "a", "text": "x", "k\\ud800": 1}', "lone surrogate", "U+D800"),
        (b'{"id": "a", "text": "x", "k": ["\\ud800"]}', "lone surrogate", "U+D800"),
        (b'{"id": 7, "text": "x"}\n{"id": "7", "text": "y"}', "duplicate id", "'7' came before"),
        (b'{"id": "a", "text": "' + b"x" * 300_000 + b'"}', "too large", "300023 bytes; at most 250000 are taken"),
    ],
)
def test_a_bad_line_is_rejected_and_the_rest_is_read(line: bytes, reason: str, detail: str, tmp_path: Path) -> None:
    content = b'{"id": "before", "text": "x"}\n' + line + b'\n{"id": "after", "text": "y"}\n'
    documents, (reject,) = read(tmp_path / "x.jsonl", content, max_document_bytes=250_000)
    assert {"before", "after"} <= {document.document_id for document in documents}
    assert (reject["file"], reject["reason"]) == (str(tmp_path / "x.jsonl"), reason)
    assert reject["line"] == 2 + line.rstrip(b"\0").count(b"\n")
    assert detail in reject["detail"]


def test_an_id_of_512_bytes_and_a_surrogate_pair_are_fine(tmp_path: Path) -> None:
    document = read_one(tmp_path / "x.jsonl", {"id": "é" * 256, "text": "\U0001f600"})
    assert document.text == "\U0001f600"


@settings(deadline=None)
@given(values=st.lists(RECORDS | JSON, max_size=5))
def test_any_json_ends_in_documents_or_rejects(values: list[Any], folder: Path) -> None:
    lines = [json.dumps(value).encode() for value in values]
    check(*read(folder / "json.jsonl", b"\n".join(lines)), lines)


@settings(deadline=None)
@given(lines=st.lists(st.binary().map(lambda line: line.replace(b"\n", b"")) | st.just(b'{"text":"x"}'), max_size=5))
def test_any_bytes_end_in_documents_or_rejects(lines: list[bytes], folder: Path) -> None:
    check(*read(folder / "bytes.jsonl", b"\n".join(lines)), lines)


def check(documents: list[Document], rejected: list[dict[str, Any]], lines: list[bytes]) -> None:
    assert len(documents) + len(rejected) == sum(bool(line.strip()) for line in lines)
    for document in documents:
        json.dumps([document.document_id, document.text, document.title, dict(document.attributes)], allow_nan=False)
        assert all(isinstance(value, str | int | float | bool) for value in document.attributes.values())
        document.text.encode()
