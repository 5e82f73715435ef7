"""A store of every released format opens for ever, and answers what it answered when it was written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from datastore.documents import PassageName
from datastore.errors import NotFound
from datastore.info import describe_store
from datastore.keeping.addition import add
from datastore.keeping.compaction import compact
from datastore.keeping.deletion import delete
from datastore.store.manifest import read_manifest
from datastore.verify import verify
from retriever.api import SearchRequest
from retriever.client import open_store

HERE = Path(__file__).parent
KEPT = sorted(path.parent.name for path in HERE.glob("v*/manifest.json"))


@pytest.fixture(params=KEPT)
def store(request: pytest.FixtureRequest) -> Path:
    return HERE / str(request.param)


def test_the_kept_stores() -> None:
    assert KEPT == ["v1-changed", "v1-flat", "v1-ivf-pq4"]


def test_it_is_sound(store: Path) -> None:
    report = verify(store)
    assert (report.problems, report.orphans) == ((), ())


def test_what_the_flat_one_holds() -> None:
    store = HERE / "v1-flat"
    info = describe_store(store)
    assert (info.format_version, info.generation) == (1, 1)
    assert (info.documents, info.passages, info.segments, info.rejected) == (12, 13, 2, 1)
    assert (info.operating_curve, read_manifest(store).config.chunk.words) == (None, 20)


def test_what_the_ivf_one_holds() -> None:
    """Its operating curve is of a generation of its own, over the segments of the first."""
    info = describe_store(HERE / "v1-ivf-pq4")
    assert (info.format_version, info.generation) == (1, 2)
    assert (info.documents, info.passages, info.segments, info.rejected) == (280, 280, 2, 0)
    curve = info.operating_curve
    assert curve is not None
    assert (curve.source, curve.queries, curve.seed, curve.generation) == ("queries", 56, 0, 1)
    assert (curve.passages, curve.measured_passages, [part.k for part in curve.curves]) == (280, 280, [10])
    assert curve.setting(10, 0.9).nprobe >= curve.setting(10, 0.5).nprobe


def test_what_the_changed_one_holds() -> None:
    """268 documents came, one of them twice, and a hundred went; one of the latter's segments went with them."""
    store = HERE / "v1-changed"
    info, manifest = describe_store(store), read_manifest(store)
    assert (info.format_version, info.generation, manifest.required_features) == (1, 4, ("ivf-rabitq", "deletions"))
    assert (info.documents, info.passages, info.rejected) == (168, 168, 0)
    assert info.deleted_documents == sum(s.deletions.documents for s in manifest.segments if s.deletions) > 0
    retriever = open_store(store)
    assert "albatross" in retriever.get_passages([PassageName("log-17", 0)])[0].text
    with pytest.raises(NotFound):
        retriever.get_passages([PassageName("log-150", 0)])
    retriever.close()


def test_it_answers_as_it_did(store: Path) -> None:
    retriever = open_store(store)
    for expected in json.loads((HERE / f"{store.name}.expected.json").read_text(encoding="utf-8")):
        request = SearchRequest(
            expected["query"], k=5 if "recall" in expected else 20, mode=expected["mode"], recall=expected.get("recall")
        )
        response = retriever.search(request)
        hits = [
            [hit.document_id, hit.chunk_index, pytest.approx(hit.score, abs=2e-6), hit.text] for hit in response.hits
        ]
        assert expected["hits"] == hits, (expected["query"], expected["mode"])
    retriever.close()


def test_it_can_be_changed(store: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(store, tmp_path / "copy"))
    before = read_manifest(copy)
    source = tmp_path / "more.jsonl"
    source.write_text('{"_id": "new", "text": "A cormorant dries its wings."}\n')
    assert add(copy, [str(source)]).documents == 1
    assert delete(copy, document_ids=["new"]).documents == 1
    assert add(copy, [str(source)]).manifest.documents == before.documents + 1
    after = compact(copy).manifest
    assert (after.passages, after.rows) == (before.passages + 1, before.passages + 1)
    report = verify(copy)
    assert (report.problems, report.orphans) == ((), ())
    retriever = open_store(copy)
    assert retriever.search(SearchRequest("cormorant wings", k=1)).hits[0].document_id == "new"
    retriever.close()


def test_its_passages_are_whole() -> None:
    retriever = open_store(HERE / "v1-flat")
    names = [PassageName("lamp", 1), PassageName("storm", 0), PassageName("empty", 0), PassageName("灯台", 0)]
    lamp, storm, empty, lighthouse = retriever.get_passages(names)
    retriever.close()
    assert (lamp.title, lamp.attributes) == ("The lamp", {"year": 1871, "lit": True})
    assert lamp.end - lamp.start == len(lamp.text)
    assert (storm.title, storm.attributes) == ("", {"year": 1888, "lit": False})
    assert (empty.title, empty.text) == ("A title without a text", "")
    assert (lighthouse.source, lighthouse.text) == ("lighthouse.jsonl", "灯台は夜の海を照らす。")
