"""Added documents are found as if the datastore had been built with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from datastore.documents import PassageName
from datastore.encoders.hashing import HashingEncoder
from datastore.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from datastore.info import describe_store
from datastore.keeping import addition
from datastore.keeping.addition import Adder, add
from datastore.keeping.compaction import compact
from datastore.keeping.deletion import delete
from datastore.store.generations import writing
from datastore.store.manifest import read_manifest
from datastore.store.reader import StoreReader
from datastore.verify import verify
from retriever.api import SearchRequest

if TYPE_CHECKING:
    from tests.datastore.keeping.conftest import Stores

KINDS = ("flat", "ivf-pq", "ivf-pq4", "ivf-rabitq")
FIRST, ALL = range(400), range(700)


@pytest.fixture(scope="module", params=KINDS)
def grown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, stores: Stores) -> Path:
    """A store of 400 documents to which 300 were added, in two steps."""
    folder = tmp_path_factory.mktemp(str(request.param))
    store = stores.build(folder, stores.records(FIRST), request.param)
    done = add(store, [stores.write(folder / "more.jsonl", stores.records(range(400, 650)))])
    assert (done.documents, done.known, done.rejects.total) == (250, 0, 0)
    add(store, [stores.write(folder / "last.jsonl", stores.records(range(650, 700)))])
    return store


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, stores: Stores) -> Path:
    """The same documents, built at once; flat."""
    return stores.build(tmp_path_factory.mktemp("built"), stores.records(ALL))


@pytest.mark.parametrize("where", [None, "year < 1950"])
@pytest.mark.parametrize("shards", [1, 3])
def test_searches_find_what_a_build_of_all_would(
    stores: Stores, grown: Path, built: Path, where: str | None, shards: int
) -> None:
    # Where everything is looked at, whatever the kind, order and scores are exact.
    wanted = stores.answers(built, "dense", where=where)
    assert stores.answers(grown, "dense", shards, where=where, **stores.all_lists) == wanted
    for seen, expected in zip(
        stores.answers(grown, "bm25", shards, where=where), stores.answers(built, "bm25", where=where), strict=True
    ):
        np.testing.assert_allclose([hit[2] for hit in seen], [hit[2] for hit in expected], rtol=1e-5)


def test_counts_and_checksums(stores: Stores, grown: Path, built: Path) -> None:
    seen, wanted = describe_store(grown), describe_store(built)
    for name in ("documents", "passages", "words", "tokens", "truncated_passages"):
        assert getattr(seen, name) == getattr(wanted, name)
    assert seen.generation == 3
    report = verify(grown)
    assert (report.problems, report.orphans) == ((), ())
    with stores.opened(grown) as router:
        assert router.get_passages([PassageName("d699", 0)])[0].title == "Item 699"


@pytest.fixture
def small(tmp_path: Path, stores: Stores) -> Path:
    return stores.build(tmp_path / "small", stores.records(range(60)))


def test_what_the_datastore_has_is_left_out_and_counted(tmp_path: Path, small: Path, stores: Stores) -> None:
    changed = stores.records(range(50, 80), words=("zinc", "yarrow"))
    source = stores.write(tmp_path / "changed.jsonl", [*changed, *changed[-2:]])
    done = add(small, [source])
    assert (done.documents, done.known, done.replaced) == (20, 10, 0)
    assert (done.rejects.by_reason, done.rejects.file is not None) == ({"duplicate id": 12}, True)
    with stores.opened(small) as router:
        assert {hit.document_id for hit in router.search(SearchRequest("zinc", k=99, mode="bm25")).hits} == {
            f"d{i}" for i in range(60, 80)
        }
    again = add(small, [source])
    assert (again.documents, again.known, again.manifest) == (0, 30, done.manifest)
    assert read_manifest(small) == done.manifest
    assert verify(small).orphans == ()


def test_an_update_replaces(tmp_path: Path, small: Path, stores: Stores) -> None:
    before = read_manifest(small)
    changed = stores.records(range(50, 80), words=("zinc", "yarrow"))
    done = add(small, [stores.write(tmp_path / "changed.jsonl", changed)], replace_known=True)
    assert (done.documents, done.known, done.replaced) == (30, 0, 10)
    assert done.manifest.generation == before.generation + 1
    fresh = stores.build(tmp_path / "fresh", [*stores.records(range(50)), *changed])
    assert stores.answers(small, "dense") == stores.answers(fresh, "dense")
    with stores.opened(small) as router:
        hits = router.search(SearchRequest("zinc yarrow", k=99, mode="bm25")).hits
        assert {hit.document_id for hit in hits} == {f"d{i}" for i in range(50, 80)}
        assert "zinc" in router.get_passages([PassageName("d55", 0)])[0].text + hits[0].text
    info = describe_store(small)
    assert info.documents == 80
    assert (compact(small).manifest.passages, describe_store(small).deleted_passages) == (info.passages, 0)
    assert stores.answers(small, "dense") == stores.answers(fresh, "dense")


def test_what_was_deleted_can_be_added_again(tmp_path: Path, small: Path, stores: Stores) -> None:
    wanted = stores.answers(small, "dense")
    assert delete(small, where="year >= 1900").documents == 60
    assert add(small, [stores.write(tmp_path / "again.jsonl", stores.records(range(60)))]).documents == 60
    assert stores.answers(small, "dense") == wanted


def test_an_input_that_is_not_what_it_should_be(tmp_path: Path, small: Path, stores: Stores) -> None:
    before = read_manifest(small)
    source = tmp_path / "bad.jsonl"
    source.write_text("no JSON\n" * 5 + '{"_id": "new", "text": "amber"}\n')
    with pytest.raises(InvalidArgument, match=r"5 of 6 input records were rejected .*nothing was added") as refused:
        add(small, [str(source)])
    kept = small / "rejects-failed.jsonl"
    assert str(kept) in refused.value.mend
    assert len(kept.read_text().splitlines()) == 5
    source.write_text("")
    with pytest.raises(InvalidArgument, match="no document in"):
        add(small, [str(source)])
    assert not kept.exists()
    with pytest.raises(NotFound, match="nowhere"):
        add(small, [str(tmp_path / "nowhere.jsonl")])
    with pytest.raises(NotFound, match="no datastore"):
        add(tmp_path / "nothing", [str(source)])
    assert read_manifest(small) == before
    assert (verify(small).problems, verify(small).orphans) == ((), ())


def test_another_encoder_is_refused(tmp_path: Path, small: Path, stores: Stores) -> None:
    class Other(HashingEncoder):
        fingerprint = replace(HashingEncoder.fingerprint, revision="another")

    with pytest.raises(FailedPrecondition, match="another"):
        add(small, [stores.write(tmp_path / "more.jsonl", stores.records(range(60, 70)))], encoder=Other())


def test_one_writer_at_a_time(tmp_path: Path, small: Path, stores: Stores) -> None:
    source = stores.write(tmp_path / "more.jsonl", stores.records(range(60, 70)))
    with writing(small):
        for change in (
            lambda: add(small, [source]),
            lambda: delete(small, document_ids=["d1"]),
            lambda: compact(small),
        ):
            with pytest.raises(Unavailable, match="another process is writing"):
                change()


def test_a_full_disk_adds_nothing(tmp_path: Path, small: Path, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "columns.arrow")

    before = read_manifest(small)
    monkeypatch.setattr(addition, "seal_segment", full)
    source = stores.write(tmp_path / "more.jsonl", stores.records(range(60, 70)))
    with pytest.raises(ResourceExhausted, match="no space left"):
        add(small, [source])
    monkeypatch.undo()
    assert read_manifest(small) == before
    assert (verify(small).problems, verify(small).orphans) == ((), ())
    assert add(small, [source]).documents == 10


def test_a_reader_goes_on_while_documents_come_and_go(tmp_path: Path, small: Path, stores: Stores) -> None:
    wanted = stores.answers(small, "hybrid")
    with stores.opened(small) as router:
        add(small, [stores.write(tmp_path / "more.jsonl", stores.records(range(60, 90)))])
        delete(small, where="year < 1930")
        compact(small)
        for query, hits in zip(stores.queries, wanted, strict=True):
            found = router.search(SearchRequest(query, k=15)).hits
            assert [(hit.document_id, hit.chunk_index, hit.score) for hit in found] == hits
    assert describe_store(small).documents == 60


def test_many_small_additions_leave_few_segments(tmp_path: Path, stores: Stores) -> None:
    store = stores.build(tmp_path, stores.records(range(30)), segment={"passages": 100})
    with Adder(store) as adder:
        for number in range(30, 70):
            adder.add([stores.write(tmp_path / "one.jsonl", stores.records([number]))])
    manifest = read_manifest(store)
    assert manifest.generation == 41
    assert len(manifest.segments) <= 8 + manifest.passages // 50
    fresh = stores.build(tmp_path / "fresh", stores.records(range(70)))
    assert stores.answers(store, "dense") == stores.answers(fresh, "dense")
    for seen, wanted in zip(stores.answers(store, "bm25"), stores.answers(fresh, "bm25"), strict=True):
        np.testing.assert_allclose([hit[2] for hit in seen], [hit[2] for hit in wanted], rtol=1e-5)
    assert describe_store(store).tokens == describe_store(fresh).tokens
    assert verify(store).orphans == ()


def test_an_addition_is_attributed_as_others_are(tmp_path: Path, small: Path, stores: Stores) -> None:
    add(small, [stores.write(tmp_path / "more.jsonl", [{"_id": "x", "text": "amber", "year": "unknown"}])])
    reader = StoreReader(small)
    assert reader.live_passages == read_manifest(small).passages
    reader.close()
    with stores.opened(small) as router:
        for where, names in (("year = 'unknown'", {"x"}), ("year = 1905", {"d5"})):
            hits = router.search(SearchRequest("amber", k=99, mode="dense", where=where)).hits
            assert {hit.document_id for hit in hits} == names
