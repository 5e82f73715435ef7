"""Compaction: nothing deleted is left on disk, and searches answer as a fresh build does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from datastore.ann import spec as specs
from datastore.bm25.index import Bm25Index
from datastore.errors import InvalidArgument
from datastore.info import describe_store
from datastore.keeping.addition import add
from datastore.keeping.compaction import compact
from datastore.keeping.deletion import delete
from datastore.store.manifest import read_manifest
from datastore.store.passages import PassageStore
from datastore.store.reader import StoreReader
from datastore.verify import verify

if TYPE_CHECKING:
    from tests.datastore.keeping.conftest import Stores

KINDS = ("flat", "ivf-pq", "ivf-pq4", "ivf-rabitq")
DOCUMENTS = 700
GONE = [i for i in range(DOCUMENTS) if i % 3 == 0]
LEFT = [i for i in range(DOCUMENTS) if i % 3]
SECRET = "xyzzyplugh"


def codes_of(store: Path) -> dict[tuple[str, int], set[tuple[int, bytes]]]:
    """Passage -> its (list, code)s, read from the files of codes."""
    manifest = read_manifest(store)
    spec = manifest.index
    found: dict[tuple[str, int], set[tuple[int, bytes]]] = {}
    reader = StoreReader(store)
    for record, segment in zip(manifest.segments, reader.segments, strict=True):
        names = segment.columns.names(np.arange(record.passages))
        data = np.fromfile(store / "segments" / record.segment_id / "ann.lists", np.uint8)
        lengths = data[: 4 * spec.nlist].view("<u4")
        entries = int(lengths.sum())
        rows = data[4 * spec.nlist :][: 4 * entries].view("<u4")
        codes = data[4 * spec.nlist + 4 * entries :].reshape(entries, spec.code_bytes)
        for number, row, code in zip(np.repeat(np.arange(spec.nlist), lengths), rows, codes, strict=True):
            found.setdefault(names[row], set()).add((int(number), code.tobytes()))
    reader.close()
    return found


@pytest.fixture(scope="module", params=KINDS)
def changed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, stores: Stores) -> Path:
    """A store from which a third of its documents were deleted."""
    store = stores.build(tmp_path_factory.mktemp(str(request.param)), stores.records(range(DOCUMENTS)), request.param)
    delete(store, document_ids=[f"d{i}" for i in GONE])
    return store


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, stores: Stores) -> Path:
    """What is left, built at once; flat."""
    return stores.build(tmp_path_factory.mktemp("fresh"), stores.records(LEFT))


def test_answers_are_those_of_a_fresh_build(stores: Stores, changed: Path, fresh: Path) -> None:
    before = read_manifest(changed)
    codes = codes_of(changed) if before.index.codes_name == "ann.lists" and before.index.nlist else None
    dense = stores.answers(changed, "dense", nprobe=3)
    done = compact(changed)
    assert (done.before, done.manifest, done.retrained, done.held_generations) == (
        before,
        read_manifest(changed),
        False,
        0,
    )
    assert stores.answers(changed, "dense", **stores.all_lists) == stores.answers(fresh, "dense")
    for seen, wanted in zip(stores.answers(changed, "bm25"), stores.answers(fresh, "bm25"), strict=True):
        np.testing.assert_allclose([hit[2] for hit in seen], [hit[2] for hit in wanted], rtol=1e-5)
    assert done.manifest.required_features == before.index.required_features
    assert done.manifest.rows == done.manifest.passages == before.passages
    info, other = describe_store(changed), describe_store(fresh)
    assert (info.documents, info.words, info.truncated_passages) == (other.documents, other.words, 0)
    assert info.tokens == pytest.approx(other.tokens, rel=0.02)
    assert (verify(changed).problems, verify(changed).orphans) == ((), ())
    if codes is not None:  # none was computed again
        left = {name: entries for name, entries in codes.items() if name[0] in {f"d{i}" for i in LEFT}}
        assert codes_of(changed) == left
        assert stores.answers(changed, "dense", nprobe=3) == dense
    again = compact(changed)
    assert (again.manifest, again.rewritten_segments) == (done.manifest, 0)


def bytes_of(store: Path) -> bytes:
    """Of all files, and of their names."""
    return b"\n".join(
        str(path.relative_to(store)).encode() + path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()
    )


def stored_texts(store: Path) -> str:
    """All that any part gives back: what is compressed does not show in the bytes."""
    reader = StoreReader(store)
    found = []
    for record, segment in zip(reader.manifest.segments, reader.segments, strict=True):
        folder = store / "segments" / record.segment_id
        passages = PassageStore(folder / "passages")
        found += [str(passage) for passage in passages.get(range(record.passages))]
        found.append(str(segment.columns.table.to_pydict()))
        assert passages.runs(["secret-1", "secret-2"]) == [None, None]
        passages.close()
        bm25 = Bm25Index([folder / "bm25"], reader.manifest.config.bm25.analyzer)
        assert bm25.statistics(SECRET).document_frequencies == {SECRET: 0}
        bm25.close()
    reader.close()
    return "".join(found)


@pytest.mark.parametrize("kind", ["flat", "ivf-pq4"])
def test_deleted_passages_are_gone_from_the_disk(tmp_path: Path, stores: Stores, kind: str) -> None:
    secrets = [
        {"_id": f"secret-{i}", "title": f"{SECRET} {i}", "text": f"{SECRET} amber", "owner": SECRET, "source": SECRET}
        for i in (1, 2)
    ]
    store = stores.build(tmp_path, [*stores.records(range(300)), secrets[0], secrets[0]], kind)
    add(store, [stores.write(tmp_path / "more.jsonl", [secrets[1], *stores.records(range(300, 310))])])
    add(store, [stores.write(tmp_path / "known.jsonl", [secrets[1], *stores.records(range(310, 320))])])
    assert SECRET.encode() in bytes_of(store)
    assert delete(store, document_ids=["secret-1", "secret-2"]).documents == 2
    assert SECRET.encode() in bytes_of(store)
    done = compact(store)
    assert (done.manifest.documents, done.held_generations) == (320, 0)
    assert SECRET.encode() not in bytes_of(store)
    assert b"secret-" not in bytes_of(store)
    assert SECRET not in stored_texts(store)
    assert "number77" in stored_texts(store)
    assert json.loads((store / "manifest.json").read_text())["rejects"]["file"] is None


def test_readers_hold_what_was_deleted_until_they_close(tmp_path: Path, stores: Stores) -> None:
    store = stores.build(tmp_path, stores.records(range(60)))
    with stores.opened(store):
        delete(store, document_ids=["d7"])
        done = compact(store)
        assert done.held_generations == 1
        assert (store / "segments" / "00000001-000000").exists()
    assert compact(store).held_generations == 0
    assert not (store / "segments" / "00000001-000000").exists()
    assert len(list((store / "generations").iterdir())) == 1


def test_small_segments_are_put_together(tmp_path: Path, stores: Stores) -> None:
    store = stores.build(tmp_path, stores.records(range(200)), segment={"passages": 30})
    before = read_manifest(store)
    assert compact(store).manifest == before  # as large as they may be
    for number in range(200, 206):
        add(store, [stores.write(tmp_path / "one.jsonl", stores.records([number]))])
    wanted = stores.answers(store, "dense")
    done = compact(store)
    assert len(done.manifest.segments) <= len(before.segments) + 2
    assert max(record.passages for record in done.manifest.segments) <= 33
    assert stores.answers(store, "dense") == wanted


def test_retraining(tmp_path: Path, stores: Stores) -> None:
    store = stores.build(tmp_path, stores.records(range(400)), "ivf-pq4", segment={"passages": 2000})
    other = ("quartz", "russet", "sepia", "teal", "umber", "violet", "walnut", "xenon", "yarrow", "zinc")
    add(store, [stores.write(tmp_path / "other.jsonl", stores.records(range(400, 700), words=other))])
    info = describe_store(store)
    assert info.drift is not None
    assert info.drift.added_passages == info.passages - info.drift.trained_passages
    assert info.drift.ratio > 1.15
    assert "times as far" in info.retrain
    assert compact(store).retrained is False
    done = compact(store, retrain=True)
    after = describe_store(store)
    assert done.retrained
    assert (after.drift, after.retrain, after.passages) == (None, "", info.passages)
    assert done.manifest.template is not None
    assert done.manifest.template.path == f"template-{done.manifest.generation}.npz"
    assert done.manifest.operating_curve is not None
    assert (done.manifest.operating_curve.generation, after.operating_curve_stale) == (done.manifest.generation, False)
    assert (verify(store).problems, verify(store).orphans) == ((), ())
    fresh = stores.build(tmp_path / "fresh", [*stores.records(range(400)), *stores.records(range(400, 700), other)])
    assert stores.answers(store, "dense", **stores.all_lists) == stores.answers(fresh, "dense")
    assert not list(store.glob("template.npz"))


def test_more_of_the_same_does_not_drift(tmp_path: Path, stores: Stores) -> None:
    store = stores.build(tmp_path, stores.records(range(400)), "ivf-pq4")
    add(store, [stores.write(tmp_path / "more.jsonl", stores.records(range(400, 600)))])
    info = describe_store(store)
    assert info.drift is not None
    assert 0.8 < info.drift.ratio < 1.15
    assert info.retrain == ""
    assert info.operating_curve_stale


def test_a_flat_index_that_is_outgrown(tmp_path: Path, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stores.build(tmp_path, stores.records(range(300)), index={"kind": "auto"})
    asked_for = stores.build(tmp_path / "asked", stores.records(range(300)))
    wanted = stores.answers(store, "dense")
    monkeypatch.setattr(specs, "FLAT_MAX_PASSAGES", 500)
    assert compact(asked_for).manifest.index.kind == "flat"
    done = compact(store)
    assert (done.retrained, done.manifest.index.kind) == (True, "ivf-pq4")
    nlist = done.manifest.index.nlist
    assert stores.answers(store, "dense", nprobe=nlist, candidate_depth=5000) == wanted
    assert verify(store).problems == ()


def test_too_few_are_left_to_train_an_index(tmp_path: Path, stores: Stores) -> None:
    store = stores.build(tmp_path, stores.records(range(300)), "ivf-pq4")
    delete(store, where="document_id != 'd7'")
    with pytest.raises(InvalidArgument, match="for 2 training vectors"):
        compact(store, retrain=True)
    assert compact(store).manifest.rows == 2
    assert {hit[0] for hit in stores.answers(store, "dense")[0]} == {"d7"}
    assert verify(store).problems == ()
