"""What becomes of a file of each kind, and of damaged ones."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from bench.fuzz_files import arrow, files, html, parquet, pdf, warc_record, warc_records
from datastore.config import InputConfig
from datastore.documents import Document
from datastore.errors import InvalidArgument, NotFound, Unavailable
from datastore.sources import pdf as pdf_source
from datastore.sources.html import read_page
from datastore.sources.inputs import cut_inputs, open_inputs, read_piece
from datastore.sources.rejects import Rejects

PAGE = "Heading\n\nWords of the page, é & others."
ROWS = [
    (
        "r1",
        "First",
        "Words of a row.",
        {"when": "2024-01-31T00:00:00", "tags": '["a","b"]', "inner": '{"x":1,"y":null}'},
    ),
    ("r2", "", "Others, é.", {"tags": "[]"}),
    ("r3", "", "A third.", {"when": "1999-12-31T00:00:00", "inner": '{"x":2,"y":0.5}'}),
]


def read(path: Path, content: bytes | None = None, **options: Any) -> tuple[list[Document], list[dict[str, Any]]]:
    if content is not None:
        path.write_bytes(content)
    rejects_path = path.with_suffix(".rejects")
    rejects_path.unlink(missing_ok=True)
    with Rejects(rejects_path) as rejects:
        documents = list(open_inputs([str(path)], rejects, InputConfig(**options)))
    return documents, [json.loads(line) for line in rejects_path.read_bytes().splitlines()] if rejects.total else []


def test_every_valid_file_is_read_without_rejects_whole_and_in_pieces(tmp_path: Path) -> None:
    for name, content in files().items():
        documents, rejected = read(tmp_path / name, content)
        assert documents, name
        assert rejected == [], name
        with Rejects(tmp_path / "rejects") as rejects:
            pieces = cut_inputs([str(tmp_path / name)], 1)
            found = [item.document for piece in pieces for item in read_piece(piece, rejects, InputConfig())]
        assert found == documents, name


@pytest.mark.parametrize(
    ("name", "content"), [("a.parquet", parquet()), ("a.arrow", arrow()), ("b.arrow", arrow(stream=False))]
)
def test_rows(name: str, content: bytes, tmp_path: Path) -> None:
    documents, rejected = read(tmp_path / name, content)
    found = [(item.document_id, item.title, item.text, item.attributes) for item in documents]
    assert found == ROWS
    assert rejected == []


def test_parquet_is_cut_by_row_groups_and_columns_are_chosen_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table = pyarrow.table(
        {"body": [f"row {number}" for number in range(10)], "key": list(range(10)), "head": ["h"] * 10}
    )
    pyarrow.parquet.write_table(table, path, row_group_size=3)
    pieces = cut_inputs([str(path)], 1)
    assert [(piece.start, piece.stop, piece.first) for piece in pieces] == [(0, 1, 1), (1, 2, 4), (2, 3, 7), (3, 4, 10)]
    documents, _ = read(path, text_field="body", title_field="head")
    assert [item.document_id for item in documents] == [f"x.parquet:{number}" for number in range(1, 11)]
    documents, _ = read(path, text_field="body", id_field="key")
    assert [(item.document_id, item.text, item.attributes) for item in documents][7] == ("7", "row 7", {"head": "h"})
    with pytest.raises(
        InvalidArgument, match=r"x.parquet has no column 'text'; it has body, key, head; name the column"
    ):
        read(path)


def test_bad_rows_are_rejected_by_number(tmp_path: Path) -> None:
    broken = pyarrow.array([b"fine", b"\xff", b"fine too", b"x" * 5000, None]).cast(pyarrow.string(), safe=False)
    table = pyarrow.table({"text": broken, "id": ["a", "b", "a", "d", "e"]})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    documents, rejected = read(tmp_path / "x.parquet", max_document_bytes=1024)
    assert [item.text for item in documents] == ["fine"]
    assert [(item["line"], item["reason"]) for item in rejected] == [
        (2, "not UTF-8"),
        (3, "duplicate id"),
        (4, "too large"),
        (5, "no text"),
    ]
    pyarrow.parquet.write_table(pyarrow.table({"text": [1.5]}), tmp_path / "y.parquet")
    (reject,) = read(tmp_path / "y.parquet")[1]
    assert (reject["reason"], reject["detail"]) == ("wrong type", "the field 'text' is a number; wanted a string")


def test_damage_to_a_row_group_leaves_the_others(tmp_path: Path) -> None:
    content = bytearray(parquet())
    group = pyarrow.parquet.read_metadata(pyarrow.BufferReader(bytes(content))).row_group(1)
    start = min(
        group.column(index).dictionary_page_offset or group.column(index).data_page_offset for index in range(3)
    )
    content[start : start + 8] = b"\xff" * 8
    documents, (reject,) = read(tmp_path / "x.parquet", bytes(content))
    assert [item.document_id for item in documents] == ["r1", "r3"]
    assert (reject["line"], reject["reason"]) == (2, "damaged file")


def test_saved_datasets_are_folders(tmp_path: Path) -> None:
    datasets.disable_progress_bars()
    made = {
        split: datasets.Dataset.from_dict({"text": [f"{split} {n}" for n in range(3)]}) for split in ("train", "test")
    }
    datasets.DatasetDict(made).save_to_disk(str(tmp_path / "saved"))
    documents, rejected = read(tmp_path / "saved")
    assert [item.text for item in documents] == ["test 0", "test 1", "test 2", "train 0", "train 1", "train 2"]
    assert rejected == []


def test_a_dataset_s_name_without_the_hub_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with (
        Rejects(tmp_path / "rejects") as rejects,
        pytest.raises(NotFound, match="hf:no/such:en@test' cannot be loaded"),
    ):
        list(open_inputs(["hf:no/such:en@test"], rejects))


def test_a_hub_that_is_not_there_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("it tries for half a minute")

    monkeypatch.setattr(datasets, "load_dataset", never)
    with socket.socket() as taken, Rejects(tmp_path / "rejects") as rejects:
        taken.bind(("127.0.0.1", 0))  # and does not listen: connections are refused
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(Unavailable, match=r"the hub cannot be reached for 'hf:no/such'.*check the network"):
            list(open_inputs(["hf:no/such"], rejects))


def test_pages(tmp_path: Path) -> None:
    (document,), rejected = read(tmp_path / "a.html", html())
    assert (document.document_id, document.title, rejected) == ("a.html", "A page", [])
    assert document.text.startswith(PAGE)
    assert "kept\n  as is" in document.text
    assert not any(word in document.text for word in ("hidden", "Home", "imprint"))


@pytest.mark.parametrize(
    ("content", "charset", "text"),
    [
        ("<p>Größe und Übermaß".encode("latin-1"), "iso-8859-1", "Größe und Übermaß"),
        ("<meta charset=shift_jis><p>日本語の文章".encode("shift_jis"), None, "日本語の文章"),
        ("<p>Größe".encode(), "no-such-charset", "Größe"),
        (b"<title> Only\n a  title </title>", None, ""),
        (b"<div>" * 5000 + b"deep", None, "deep"),
        (b"<ga \xff" * 5000 + b"<p>deep", None, "deep"),
        (b"", None, ""),
    ],
)
def test_charsets_and_strange_pages(content: bytes, charset: str | None, text: str) -> None:
    page = read_page(content, charset)
    assert page.text == text
    assert page.title == ("Only a title" if b"title" in content else "")


def test_pdf(tmp_path: Path) -> None:
    (document,), rejected = read(tmp_path / "a.pdf", pdf())
    assert document.text == "Words of the first page\n\nand of the second"
    assert (document.document_id, document.title, document.attributes) == ("a.pdf", "A paper", {"pages": 2})
    assert rejected == []


@pytest.mark.parametrize(
    ("content", "reason", "detail"),
    [
        (pdf(("", "")), "no text", "none of 2 pages has text: scanned pages need OCR first"),
        (b"%PDF-1.7 and then nothing", "not PDF", "Data format error"),
        (pdf(("x" * 900, "x" * 900)), "too large", "bytes"),
    ],
)
def test_pdf_without_text_is_rejected(content: bytes, reason: str, detail: str, tmp_path: Path) -> None:
    documents, (reject,) = read(tmp_path / "a.pdf", content, max_document_bytes=1500)
    assert documents == []
    assert reject["reason"] == reason
    assert detail in reject["detail"]


def with_dictionary(records: list[bytes], *, packed: bool) -> bytes:
    """Frames for records, after a skippable frame that holds the dictionary they were compressed with."""
    samples: list[Any] = [record + str(number).encode() for number in range(300) for record in records]
    trained = zstandard.train_dictionary(4096, samples)
    content = zstandard.compress(trained.as_bytes()) if packed else trained.as_bytes()
    frames = [zstandard.ZstdCompressor(dict_data=trained).compress(record) for record in records]
    return b"\x5d\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content + b"".join(frames)


def test_a_pdf_that_takes_for_ever_or_ends_its_reader_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = pdf((") Tj (x" * 1_000_000, "of the second"))
    monkeypatch.setattr(pdf_source, "_READER", pdf_source._Reader())  # limits hold for readers that start after them
    with monkeypatch.context() as limits:
        limits.setattr(pdf_source, "PAGE_SECONDS", 0.001)
        documents, (reject,) = read(tmp_path / "a.pdf", slow)
        assert (documents, reject["reason"]) == ([], "too slow")
    with monkeypatch.context() as limits:
        limits.setattr(pdf_source, "MAX_MEMORY", 200 << 20)
        documents, (reject,) = read(tmp_path / "a.pdf", slow)
        assert (documents, reject["reason"]) == ([], "damaged file")
        assert reject["detail"].startswith("page 1 ended its reader")
    for _ in range(2):  # the next file has a reader again, and the one after it the same
        documents, rejected = read(tmp_path / "a.pdf", pdf())
        assert [document.title for document in documents] == ["A paper"]
        assert rejected == []


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.warc", b"".join),
        ("a.warc.gz", lambda records: b"".join(map(gzip.compress, records))),
        ("a.warc.zst", lambda records: b"".join(map(zstandard.compress, records))),
        ("a.warc.zst", partial(with_dictionary, packed=False)),
        ("a.warc.zst", partial(with_dictionary, packed=True)),
    ],
)
def test_warc(name: str, pack: Callable[[list[bytes]], bytes], tmp_path: Path) -> None:
    documents, rejected = read(tmp_path / name, pack(warc_records()))
    assert [item.document_id for item in documents] == [
        "https://example.org/page",
        "https://example.org/plain",
        "https://example.org/packed",
    ]
    assert documents[0].title == "A page"
    assert documents[0].text.startswith(PAGE)
    assert documents[1].text == "Plain words, é."
    assert documents[2].text == "Words that came in a gzip stream."
    assert documents[1].source == "example.org"
    assert documents[1].attributes == {
        "url": "https://example.org/plain",
        "date": "2024-01-31T12:00:00Z",
        "content_type": "text/plain",
    }
    assert rejected == []


def test_bad_records_and_truncated_archives(tmp_path: Path) -> None:
    bomb = gzip.compress(b"A" * 100_000)
    records = [
        warc_record("https://e.org/1", b"<p>Good words"),
        warc_record("https://e.org/2", bomb, "text/plain", headers="Content-Encoding: gzip\r\n"),
        warc_record("https://e.org/3", b"caf\xe9", "text/plain"),
        warc_record("https://e.org/" + "x" * 600, b"long", "text/plain"),
        warc_record("https://e.org/5", b"words" * 50, "text/plain"),
    ]
    documents, rejected = read(tmp_path / "a.warc", b"".join(records)[:-100], max_document_bytes=50_000)
    assert [item.document_id for item in documents] == [
        "https://e.org/1",
        "urn:uuid:12345678-1234-1234-1234-123456789012",
    ]
    reasons = [(2, "too large"), (3, "not UTF-8"), (5, "damaged record")]
    assert [(item["line"], item["reason"]) for item in rejected] == reasons

    for name, compress in (("a.warc.gz", gzip.compress), ("a.warc.zst", zstandard.compress)):
        packed = b"".join(compress(record) for record in records)
        documents, rejected = read(tmp_path / name, packed[:-20], max_document_bytes=50_000)
        assert len(documents) == 2
        assert rejected[-1]["reason"] == "damaged archive"
    head = b"\x5d\x2a\x4d\x18\xff\xff\xff\xff"
    for damaged in (head, head[:6], head[:4] + b"\x08\0\0\0\x28\xb5\x2f\xfdgone"):
        documents, (reject,) = read(tmp_path / "a.warc.zst", damaged)
        assert (documents, reject["reason"]) == ([], "damaged archive")


def test_fields_of_json_lines_are_chosen_by_name(tmp_path: Path) -> None:
    line = b'{"text": "not this", "content": "this", "key": 7, "id": "i", "headline": "H", "title": "T"}'
    (document,), _ = read(tmp_path / "x.jsonl", line, text_field="content", id_field="key", title_field="headline")
    assert (document.document_id, document.text, document.title) == ("7", "this", "H")
    assert document.attributes == {"text": "not this", "id": "i", "title": "T"}
