"""What every source keeps to: the same documents in the same order, unique ids, bad input rejected and counted.

A new source joins by an entry in CASES.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from bench.fuzz_files import parquet, pdf, warc_record
from datastore.config import InputConfig
from datastore.sources.inputs import open_inputs
from datastore.sources.rejects import Rejects

BAD_LINES: dict[str, bytes] = {
    "not JSON": b'{"_id": "b1", "text": "cut off',
    "not an object": b'["text"]',
    "not UTF-8": b'{"_id": "b2", "text": "caf\xe9"}',
    "no text": b'{"_id": "b3", "title": "no text field"}',
    "wrong type": b'{"_id": "b4", "text": 7}',
    "lone surrogate": rb'{"_id": "b5", "text": "\ud800"}',
    "bad id": rb'{"_id": "b\u0000", "text": "x"}',
    "duplicate id": b'{"_id": "g0", "text": "again"}',
    "too large": b'{"_id": "b6", "text": "' + b"x" * 100_000 + b'"}',
}
ONE_OF_EACH = dict.fromkeys(BAD_LINES, 1)
GOOD_IDS = ["g0", "g1", "g2"]


def jsonl() -> bytes:
    good = [json.dumps({"_id": name, "text": f"text of {name}"}).encode() for name in GOOD_IDS]
    return b"\n".join([good[0], *BAD_LINES.values(), b"", good[1], good[2]])


@dataclass(frozen=True)
class Case:
    """Writes an input with bad parts into a folder, and says what must come of it."""

    write: Callable[[Path], None]
    inputs: Sequence[str]
    document_ids: Sequence[str] | None
    rejected: Mapping[str, int] | None
    """Both are None where they depend on the installation."""


def write_beir(folder: Path) -> None:
    (folder / "corpus.jsonl").write_bytes(jsonl())
    (folder / "queries.jsonl").write_bytes(b'{"_id": "q", "text": "a query"}\n')
    (folder / "qrels").mkdir()
    (folder / "qrels" / "notes.txt").write_text("judged by hand")


def write_texts(folder: Path) -> None:
    (folder / "b").mkdir()
    (folder / "a.txt").write_text("alpha\n")
    (folder / "b" / "c.MD").write_text("# Gamma\n")
    (folder / "b.md").write_text("beta\n")
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    (folder / "blank.txt").write_text(" \n")
    (folder / "large.txt").write_text("x" * 100_000)
    (folder / "picture.png").write_bytes(b"\x89PNG")


def write_mixture(folder: Path) -> None:
    (folder / "one.jsonl").write_bytes(jsonl())
    write_texts(folder)


def write_tables(folder: Path) -> None:
    good = pyarrow.table({"id": ["g0", "g1", "g0", "b1"], "text": ["one", "two", "again", None]})
    pyarrow.parquet.write_table(good, folder / "a.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"text": [7]}), folder / "b.parquet")
    (folder / "c.parquet").write_bytes(parquet()[:-10])
    with pyarrow.ipc.new_stream(folder / "d.arrow", good.schema) as writer:
        writer.write_table(pyarrow.table({"id": ["h0"], "text": ["three"]}))
    (folder / "e.arrow").write_bytes(b"ARROW1 and no more")


def write_pages(folder: Path) -> None:
    (folder / "a.html").write_bytes(b"<title>T</title><p>Words")
    (folder / "b.html").write_bytes(b"<script>nothing</script>")
    (folder / "c.html").write_bytes(b"x" * 6_000)
    (folder / "a.pdf").write_bytes(pdf(("Words",)))
    (folder / "b.pdf").write_bytes(pdf(("",)))
    (folder / "c.pdf").write_bytes(b"%PDF")
    records = [
        warc_record("https://example.org/1", b"Words", "text/plain"),
        warc_record("https://example.org/2", b"x" * 6_000),
    ]
    (folder / "a.warc").write_bytes(b"".join(records) + warc_record("https://example.org/3", b"cut off" * 9)[:-30])


CASES = {
    "jsonl": Case(lambda f: void((f / "x.jsonl").write_bytes(jsonl())), ["x.jsonl"], GOOD_IDS, ONE_OF_EACH),
    "gzip": Case(
        lambda f: void((f / "x.jsonl.gz").write_bytes(gzip.compress(jsonl()))), ["x.jsonl.gz"], GOOD_IDS, ONE_OF_EACH
    ),
    "zstd": Case(
        lambda f: void((f / "x.jsonl.zst").write_bytes(zstandard.compress(jsonl()))),
        ["x.jsonl.zst"],
        GOOD_IDS,
        ONE_OF_EACH,
    ),
    "dolma": Case(
        lambda f: void((f / "x.json.gz").write_bytes(gzip.compress(jsonl()))), ["x.json.gz"], GOOD_IDS, ONE_OF_EACH
    ),
    "tables": Case(
        write_tables, ["."], ["g0", "g1", "h0"], {"no text": 1, "wrong type": 1, "duplicate id": 1, "damaged file": 2}
    ),
    "pages": Case(
        write_pages,
        ["."],
        ["a.html", "a.pdf", "https://example.org/1"],
        {"no text": 2, "not PDF": 1, "too large": 2, "damaged record": 1},
    ),
    "beir": Case(write_beir, ["."], GOOD_IDS, ONE_OF_EACH),
    "texts": Case(write_texts, ["."], ["a.txt", "b/c.MD", "b.md"], {"not UTF-8": 1, "no text": 1, "too large": 1}),
    "several": Case(
        write_mixture,
        ["b.md", "one.jsonl", "."],
        ["b.md", *GOOD_IDS, "a.txt", "b/c.MD"],
        {**ONE_OF_EACH, "not UTF-8": 3, "no text": 3, "too large": 3, "duplicate id": 1 + 1 + 4}
        | dict.fromkeys(("not JSON", "not an object", "wrong type", "lone surrogate", "bad id"), 2),
    ),
    "pydoc": Case(lambda f: None, ["pydoc:json,asyncio,builtins,os"], None, None),
}


def void(_: object) -> None:
    """Drops what a lambda returns."""


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_conformance(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "input"
    folder.mkdir()
    case.write(folder)
    monkeypatch.chdir(folder)
    runs = []
    for name in ("first", "second"):
        with Rejects(tmp_path / name) as rejects:
            runs.append(list(open_inputs(case.inputs, rejects, InputConfig(max_document_bytes=5_000))))
    assert runs[0] == runs[1]
    documents = runs[0]
    ids = [document.document_id for document in documents]
    assert len(ids) == len(set(ids))
    if case.document_ids is not None:
        assert ids == case.document_ids
    assert all((document.text.strip() or document.title.strip()) and document.source for document in documents)

    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    records = [json.loads(line) for line in (tmp_path / "first").read_bytes().splitlines()]
    assert Counter(record["reason"] for record in records) == rejects.by_reason
    assert len(records) == rejects.total > 0
    if case.rejected is not None:
        assert rejects.by_reason == case.rejected
    for record in records:
        assert list(record) == ["file", "line", "reason", "detail", "excerpt"]
        assert record["file"]
        assert record["detail"]
        assert len(record["excerpt"]) <= 200
