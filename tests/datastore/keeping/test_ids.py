"""Lists of ids, as people and programs write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from datastore.errors import InvalidArgument, NotFound
from datastore.keeping.ids import read_document_ids


def test_lines(tmp_path: Path) -> None:
    file = tmp_path / "ids"
    file.write_bytes(
        b'\xef\xbb\xbfd1\r\n\n an id with spaces \n{"id": 7, "text": "x"}\n{"_id": "d8"}\n{"document_id": "d9"}\n'
        b'"as jq writes it"\n"caf\\u00e9"\n"not JSON\n{not JSON either\n{"name": "d10"}\n'
    )
    assert list(read_document_ids(str(file))) == [
        "d1",
        " an id with spaces ",
        "7",
        "d8",
        "d9",
        "as jq writes it",
        "café",
        '"not JSON',
        "{not JSON either",
        '{"name": "d10"}',
    ]


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"d1\ncaf\xe9\n")
    with pytest.raises(InvalidArgument, match="line 2"):
        list(read_document_ids(str(tmp_path / "latin")))
    with pytest.raises(InvalidArgument, match="cannot be read"):
        list(read_document_ids(str(tmp_path)))
    with pytest.raises(NotFound):
        list(read_document_ids(str(tmp_path / "nothing")))
