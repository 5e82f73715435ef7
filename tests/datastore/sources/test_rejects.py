from __future__ import annotations

import json
from pathlib import Path

import pytest

from datastore.errors import InvalidArgument
from datastore.sources.rejects import RefusedError, Rejects


def test_without_rejects_there_is_no_file(tmp_path: Path) -> None:
    with Rejects(tmp_path / "rejects.jsonl") as rejects:
        assert rejects.total == 0
        assert rejects.by_reason == {}
    assert not rejects.path.exists()


def test_counts_and_records(tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    path.write_text("from an earlier run\n")
    with Rejects(path) as rejects:
        rejects.add("a.jsonl", 3, RefusedError("not JSON", "why"), b"caf\xe9 " + b"x" * 1000)
        rejects.close()
        rejects.add("b.jsonl", 1, RefusedError("not JSON", "why"))
        rejects.add("b.jsonl", 2, RefusedError("no text", "why \ud800"), "\ud800" * 500)
        assert rejects.total == 3
        assert rejects.by_reason == {"not JSON": 2, "no text": 1}
    first, second, third = (json.loads(line) for line in path.read_bytes().splitlines())
    assert first == {
        "file": "a.jsonl",
        "line": 3,
        "reason": "not JSON",
        "detail": "why",
        "excerpt": "caf\\xe9 " + "x" * 192,
    }
    assert (second["file"], second["excerpt"]) == ("b.jsonl", "")
    assert third["detail"] == "why \\ud800"
    assert len(third["excerpt"]) == 200


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    rejects = Rejects(tmp_path / "absent" / "rejects.jsonl")
    with pytest.raises(InvalidArgument, match=r"absent/rejects\.jsonl cannot be written: No such file or directory"):
        rejects.add("a", 1, RefusedError("no text", "why"))
    assert rejects.total == 0
