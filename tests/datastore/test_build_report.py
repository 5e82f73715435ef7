"""The report on a build says what the store says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from datastore.build import build
from datastore.build_report import write_report
from datastore.tasks.log import read_log

if TYPE_CHECKING:
    from tests.datastore.conftest import Config, WriteDocuments


def test_report(tmp_path: Path, config: Config, write_documents: WriteDocuments) -> None:
    source = write_documents(tmp_path / "items.jsonl", 120)
    with source.open("a") as lines:
        lines.write('not json\n{"_id": "d3", "text": "again"}\n')
        lines.write(json.dumps({"_id": "x", "text": "one <b> & two", "source": "<odd> & | name"}) + "\n")
    store = tmp_path / "store"
    build([str(source)], store, config(chunk={"words": 6}))
    write_report(store, tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "| documents | 121 |" in text
    assert "| duplicate id | 1 |" in text
    assert "| <odd> & \\| name | 1 |" in text
    page = (tmp_path / "report" / "report.html").read_text()
    assert "&lt;odd&gt; &amp; | name" in page
    for name in ("lengths", "sources", "duplicates", "rejects", "stages"):
        assert f"]({name}.svg)" in text
        ElementTree.parse(tmp_path / "report" / f"{name}.svg")


def test_the_log_tells_each_stage(tmp_path: Path, config: Config, write_documents: WriteDocuments) -> None:
    source = write_documents(tmp_path / "items.jsonl", 120)
    manifest = build([str(source)], tmp_path / "store", config())
    assert manifest.log is not None
    events = read_log(tmp_path / "store" / manifest.log.path)
    assert [event["event"] for event in events] == ["begin", *["stage done"] * 4, "publish"]
    assert [event["stage"] for event in events[1:5]] == ["scan", "passages", "train", "index"]
    assert (events[2]["documents"], events[2]["passages"], events[5]["passages"]) == (120, 120, 120)
    assert events[2]["tokens"] == sum(segment.tokens for segment in manifest.segments)
