"""However an input is cut, its pieces hold what the whole holds, in order, once."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datastore.config import InputConfig
from datastore.errors import DataLoss
from datastore.sources.found import Found, Piece
from datastore.sources.inputs import cut_inputs, read_piece
from datastore.sources.rejects import Rejects

CONFIG = InputConfig(max_document_bytes=200)
LINES = st.one_of(
    st.sampled_from(["", " ", "\r", "{", "[1]", '{"text": "é漢\u2028😀"}', '{"id": "x", "text": "' + "y" * 300 + '"}']),
    st.text(st.characters(codec="utf-8"), max_size=30).map(lambda text: json.dumps({"text": text}, ensure_ascii=False)),
    st.integers(0, 99).map(lambda number: json.dumps({"id": number, "text": "t"})),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pieces")


def read(pieces: list[Piece], rejects_path: Path) -> tuple[list[Found], bytes]:
    """What comes of all pieces, each of which went through JSON."""
    rejects_path.write_bytes(b"")
    with Rejects(rejects_path) as rejects:
        carried = [Piece(**json.loads(json.dumps(asdict(piece)))) for piece in pieces]
        found = [item for piece in carried for item in read_piece(piece, rejects, CONFIG)]
    return found, rejects_path.read_bytes()


@settings(deadline=None, max_examples=300)
@given(
    lines=st.lists(LINES, max_size=12),
    end=st.sampled_from(["", "\n", "\r\n", "\n\n"]),
    bom=st.booleans(),
    target=st.integers(1, 400),
)
def test_json_lines_in_pieces_are_the_whole(lines: list[str], end: str, bom: bool, target: int, folder: Path) -> None:
    path = folder / "x.jsonl"
    path.write_bytes(("\ufeff" * bom + "\n".join(lines) + end).encode())
    whole = [replace(piece, start=0, stop=None, first=1) for piece in cut_inputs([str(path)])]
    pieces = cut_inputs([str(path)], target)
    assert pieces == cut_inputs([str(path)], target)
    assert read(pieces, folder / "rejects") == read(whole, folder / "rejects")

    content = path.read_bytes()
    assert b"".join(content[piece.start : piece.stop] for piece in pieces) == content
    for piece in pieces:
        assert piece.first == content.count(b"\n", 0, piece.start) + 1
        assert piece.size == len(content[piece.start : piece.stop])
        # No shorter piece of whole lines has the size that was asked for, and none but the last has less.
        assert content.rfind(b"\n", piece.start, piece.stop - 1) - piece.start + 1 < target  # type: ignore[operator]
        assert piece.size >= target or piece == pieces[-1]


def test_a_file_is_cut_the_same_across_the_blocks_it_is_counted_in(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    with path.open("wb") as file:
        for number in range(3_000):
            file.write(b'{"text": "%s"}\n' % (b"x" * (number * 7919 % 2_000)))
        file.write(b'{"text": "%s"}' % (b"y" * (3 << 20)))
    content = path.read_bytes()
    for target in (100_000, 1 << 20, (1 << 20) + 1, 10 << 20):
        pieces = cut_inputs([str(path)], target)
        assert b"".join(content[piece.start : piece.stop] for piece in pieces) == content
        assert [piece.first for piece in pieces] == [content.count(b"\n", 0, piece.start) + 1 for piece in pieces]
        assert all(content[piece.start - 1 : piece.start] in (b"", b"\n") for piece in pieces)


def test_a_file_that_became_shorter_is_data_loss(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"text": "one"}\n{"text": "two"}\n')
    pieces = cut_inputs([str(path)], 1)
    path.write_bytes(b'{"text": "one"}\n{"te')
    with pytest.raises(DataLoss, match=r"x\.jsonl cannot be read past line 2: .* 12 bytes shorter"):
        read(pieces, tmp_path / "rejects")


def test_a_folder_is_cut_file_by_file(tmp_path: Path) -> None:
    (tmp_path / "input" / "b").mkdir(parents=True)
    (tmp_path / "input" / "b" / "x.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    (tmp_path / "input" / "a.txt").write_text("alpha, as it is")
    pieces = cut_inputs([str(tmp_path / "input"), "pydoc:json.tool"], 1)
    assert [(piece.reader, piece.name, piece.start, piece.stop, piece.first, piece.size) for piece in pieces] == [
        ("text", "a.txt", 0, None, 1, 15),
        ("jsonl", "b/x.jsonl", 0, 16, 1, 16),
        ("jsonl", "b/x.jsonl", 16, 32, 2, 16),
        ("pydoc", "", 0, None, 1, 0),
    ]
    found, _ = read(pieces, tmp_path / "rejects")
    assert [item.document.document_id for item in found][:3] == ["a.txt", "b/x.jsonl:1", "b/x.jsonl:2"]
