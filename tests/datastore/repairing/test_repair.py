"""What was damaged is made anew from what is whole: the store answers as before, but for passages that are lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from datastore.build import build
from datastore.config import BuildConfig
from datastore.errors import AlreadyExists, DataLoss, FailedPrecondition, NotFound
from datastore.keeping.addition import add
from datastore.keeping.compaction import compact
from datastore.keeping.deletion import delete
from datastore.repairing.repair import repair
from datastore.snapshots.snapshot import restore, snapshot
from datastore.store import checksums
from datastore.store.manifest import encode_manifest, read_manifest
from datastore.verify import verify
from retriever.api import Mode, SearchRequest
from retriever.client import open_store

SEGMENT = "segments/00000001-000001"
MODES: tuple[Mode, ...] = ("bm25", "dense")
Damage = Callable[[Path], None]
Answers = list[list[tuple[str, float, str]]]


def answers(store: Path, without: frozenset[str] = frozenset()) -> Answers:
    """Hits for some queries, and all documents."""
    with closing(open_store(store)) as retriever:
        found = [
            [
                (hit.document_id, round(hit.score, 4), hit.text)
                for hit in retriever.search(SearchRequest(query, 400, mode, nprobe=64, candidate_depth=1000)).hits
                if hit.document_id not in without
            ]
            for query in ("amber basalt", "number7 cedar")
            for mode in MODES
        ]
        assert retriever.info().documents == read_manifest(store).documents
    return found


def flip(path: Path, position: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if position is None else position] ^= 4
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def remove(path: Path) -> None:
    path.unlink()


@pytest.fixture(params=["flat_store", "ivf_store"])
def store(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("vectors.f16", flip),
        ("vectors.f16", cut),
        ("vectors.xxh3", cut),
        ("columns.arrow", flip),
        ("bm25/_0.cfs", remove),
        ("ann.faiss", flip),
    ],
)
def test_parts_of_a_segment(ivf_store: Path, name: str, damage: Damage) -> None:
    store = ivf_store
    before, generation = answers(store), read_manifest(store).generation
    damage(store / SEGMENT / name)
    told = repair(store, dry_run=True)
    assert [action.path for action in told.actions] == [f"{SEGMENT}/{name}"]
    assert read_manifest(store).generation == generation
    done = repair(store)
    assert (done.actions, done.lost_documents, done.unrepaired) == (told.actions, (), ())
    assert done.generation == generation + 1
    report = verify(store)
    assert (report.problems, report.orphans) == ((), ())
    assert answers(store) == before
    assert not (store / SEGMENT).exists()


def test_vectors_are_encoded_again_only_where_their_blocks_are_damaged(flat_store: Path) -> None:
    flip(flat_store / SEGMENT / "vectors.f16", 100)
    (action,) = repair(flat_store).actions
    assert action.what == "made anew: 13 of 13 passages encoded again, the other vectors copied"  # one block


def test_several_segments_at_once(store: Path) -> None:
    before = answers(store)
    for number, name in enumerate(("columns.arrow", "vectors.f16")):
        flip(store / "segments" / f"00000001-{number:06d}" / name)
    repair(store)
    assert verify(store).problems == ()
    assert answers(store) == before


def test_a_damaged_template_is_trained_anew(ivf_store: Path) -> None:
    before = answers(ivf_store)
    flip(ivf_store / "template.faiss")
    flip(ivf_store / SEGMENT / "columns.arrow")
    report = repair(ivf_store)
    assert report.unrepaired == ()
    assert {action.path for action in report.actions} == {"template.faiss", f"{SEGMENT}/columns.arrow"}
    assert answers(ivf_store) == before  # all lists are read


def test_damaged_rejects_are_let_go(ivf_store: Path) -> None:
    flip(ivf_store / "rejects-1.jsonl")
    assert repair(ivf_store).unrepaired == ()
    assert (read_manifest(ivf_store).rejects.total, read_manifest(ivf_store).rejects.file) == (1, None)


@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST-*", "OPTIONS-*", "IDENTITY"])
def test_what_rocksdb_can_make_anew(flat_store: Path, name: str) -> None:
    before = answers(flat_store)
    (path,) = (flat_store / SEGMENT / "passages").glob(name)
    path.unlink()
    report = repair(flat_store)
    assert (report.lost_documents, report.unrepaired) == ((), ())
    assert answers(flat_store) == before


def test_lost_passages_are_reported_and_dropped_only_when_told(ivf_store: Path) -> None:
    before = answers(ivf_store)
    (table,) = (ivf_store / SEGMENT / "passages").glob("*.sst")
    flip(table, 200)  # in its first block
    for dry in (True, False):
        report = repair(ivf_store, dry_run=dry)
        assert (report.generation, report.actions) == (1, ())
        assert 0 < len(report.lost_documents) <= 150
        assert str(table) in report.unrepaired[0]
    lost = frozenset(report.lost_documents)
    done = repair(ivf_store, drop_damaged=True)
    assert done.unrepaired == ()
    assert set(done.lost_documents) == lost
    assert verify(ivf_store).problems == ()
    assert read_manifest(ivf_store).documents == 300 - len(lost)
    kept = [[hit for hit in hits if hit[0] not in lost] for hits in before]
    assert [[hit[0] for hit in hits] for hits in answers(ivf_store)][1::2] == [[h[0] for h in hits] for hits in kept][
        1::2
    ]


def test_a_segment_of_which_nothing_is_left(flat_store: Path) -> None:
    for table in (flat_store / SEGMENT / "passages").glob("*.sst"):
        table.unlink()
    report = repair(flat_store, drop_damaged=True)
    assert report.lost_documents == tuple(f"d{i}" for i in range(13, 26))
    assert read_manifest(flat_store).documents == 47
    assert verify(flat_store).problems == ()


def test_deleted_documents_stay_deleted(flat_store: Path) -> None:
    delete(flat_store, document_ids=["d14", "d50"])
    before = answers(flat_store)
    flip(flat_store / SEGMENT / "columns.arrow")
    assert repair(flat_store).unrepaired == ()
    assert answers(flat_store)[1::2] == before[1::2]  # in BM25's statistics a deleted document counts no longer
    bits = next((flat_store / "deletions").iterdir())
    flip(bits, 0)
    report = repair(flat_store, drop_damaged=True)
    assert str(bits) in report.unrepaired[0]  # to leave the bitmap out would bring a deleted document back


def test_the_manifest_is_taken_from_its_copy(flat_store: Path) -> None:
    delete(flat_store, document_ids=["d14"])
    right = (flat_store / "manifest.json").read_bytes()
    for damage in (flip, cut, remove):
        damage(flat_store / "manifest.json")
        assert repair(flat_store, dry_run=True).actions[0].path == "manifest.json"
        report = repair(flat_store)
        assert (report.generation, report.unrepaired) == (2, ())
        assert (flat_store / "manifest.json").read_bytes() == right
    copy = flat_store / "generations" / "00000002.json"
    flip(copy)
    assert str(copy) in verify(flat_store).problems[0]
    repair(flat_store)
    assert copy.read_bytes() == right
    assert verify(flat_store).problems == ()


@pytest.fixture
def snapshot_before(flat_store: Path, tmp_path: Path) -> Path:
    """Copied, not linked: an earlier generation, with deletions."""
    delete(flat_store, document_ids=["d14", "d50"])
    return Path(shutil.copytree(flat_store, tmp_path / "snapshot"))


def test_what_a_snapshot_has_is_taken_from_it(flat_store: Path, snapshot_before: Path) -> None:
    delete(flat_store, document_ids=["d1"])
    before = answers(flat_store)
    (table,) = (flat_store / SEGMENT / "passages").glob("*.sst")
    flip(table, 200)
    bits = flat_store / "deletions" / "00000001-000001-00000002.bits"
    cut(bits)
    names = {path.relative_to(flat_store).as_posix() for path in (table, bits)}
    assert len(repair(flat_store).unrepaired) == 1
    for dry in (True, False):
        done = repair(flat_store, source=str(snapshot_before), dry_run=dry)
        assert {action.path for action in done.actions} == names
        assert (done.generation, done.unrepaired, done.lost_documents) == (3, (), ())
    assert answers(flat_store) == before
    with pytest.raises(NotFound, match="no snapshot"):
        repair(flat_store, source=str(snapshot_before / "nowhere"))


def test_what_a_snapshot_far_away_has_is_taken_if_it_is_whole(flat_store: Path) -> None:
    before = answers(flat_store)
    snapshot(flat_store, "memory://taken")
    files = fsspec.filesystem("memory")
    for name in ("vectors.f16", "columns.arrow"):
        flip(flat_store / SEGMENT / name)
    files.pipe_file(f"/taken/{SEGMENT}/columns.arrow", (flat_store / SEGMENT / "columns.arrow").read_bytes())
    done = repair(flat_store, source="memory://taken")
    files.rm("/taken", recursive=True)
    assert [(action.path.rpartition("/")[2], action.what) for action in done.actions] == [
        ("vectors.f16", "taken from memory://taken"),
        ("columns.arrow", "made anew from the passages"),
    ]
    assert done.unrepaired == ()
    assert answers(flat_store) == before


def test_what_is_damaged_in_the_snapshot_too_stays(flat_store: Path, snapshot_before: Path) -> None:
    for store in (flat_store, snapshot_before):
        flip(store / "deletions" / "00000001-000001-00000002.bits")
    assert repair(flat_store, source=str(snapshot_before)).unrepaired
    assert repair(flat_store, source=snapshot_before.as_uri(), dry_run=True).unrepaired


def test_deleted_documents_are_brought_back_only_when_told(
    flat_store: Path, tmp_path: Path, write_documents: Callable[..., Path]
) -> None:
    add(flat_store, [str(write_documents(tmp_path / "new.jsonl", 15))], replace_known=True)  # d0 to d14
    before = read_manifest(flat_store)
    delete(flat_store, document_ids=["d5", "d20"])
    remove(next((flat_store / "deletions").glob("00000001-000001-*")))  # has d14, replaced, and d20
    remove(next((flat_store / "deletions").glob("00000002-000000-*")))  # has d5
    flip(flat_store / SEGMENT / "columns.arrow")
    dry = repair(flat_store, bring_back=True, dry_run=True)
    done = repair(flat_store, bring_back=True)
    assert dry.actions == done.actions
    assert done.unrepaired == ()
    assert [action.what.partition(";")[0] for action in done.actions][:2] == [
        "let go: 1 deleted documents of 00000002-000000 are back",
        "let go: 1 deleted documents of 00000001-000001 are back",
    ]
    assert verify(flat_store).problems == ()
    assert read_manifest(flat_store).documents == before.documents == 60
    assert read_manifest(flat_store).passages == before.passages


def test_another_datastores_manifest_costs_nothing(flat_store: Path, ivf_store: Path) -> None:
    before = answers(flat_store)
    right = (flat_store / "manifest.json").read_bytes()
    shutil.copyfile(ivf_store / "manifest.json", flat_store / "manifest.json")
    with pytest.raises(DataLoss):
        delete(flat_store, document_ids=["d1"])
    for generation in (1, 5):
        manifest = replace(read_manifest(ivf_store), generation=generation)
        (flat_store / "manifest.json").write_bytes(encode_manifest(manifest))
        with pytest.raises(DataLoss):
            compact(flat_store)  # which would have swept all that the manifest does not name
        assert verify(flat_store).problems
        assert repair(flat_store).unrepaired == ()
        assert (flat_store / "manifest.json").read_bytes() == right
        assert [path.name for path in (flat_store / "generations").iterdir()] == ["00000001.json"]
    assert answers(flat_store) == before


def test_a_datastore_that_has_lost_its_manifest_is_not_written_over(
    flat_store: Path, ivf_store: Path, tmp_path: Path, config: Callable[..., BuildConfig]
) -> None:
    before = answers(flat_store)
    remove(flat_store / "manifest.json")
    (tmp_path / "more.txt").write_text("something")
    with pytest.raises(AlreadyExists, match=r"has lost its manifest\.json"):
        build([str(tmp_path / "more.txt")], flat_store, config())
    snapshot(ivf_store, str(tmp_path / "other"))
    with pytest.raises(AlreadyExists, match=r"has lost its manifest\.json"):
        restore(str(tmp_path / "other"), flat_store)
    with pytest.raises(NotFound, match="pergamon repair"):
        answers(flat_store)
    assert repair(flat_store).unrepaired == ()
    assert answers(flat_store) == before


def test_an_old_manifest_that_was_put_back_costs_nothing(flat_store: Path) -> None:
    old = (flat_store / "manifest.json").read_bytes()
    delete(flat_store, document_ids=["d14"])
    compact(flat_store)
    right, before = (flat_store / "manifest.json").read_bytes(), answers(flat_store)
    (flat_store / "manifest.json").write_bytes(old)
    with pytest.raises(DataLoss):
        delete(flat_store, document_ids=["d1"])
    assert repair(flat_store).unrepaired == ()
    assert (flat_store / "manifest.json").read_bytes() == right
    assert answers(flat_store) == before


def test_what_may_not_be_read_is_not_taken_for_damaged(flat_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(checksums, "hash_file", denied)
    with pytest.raises(FailedPrecondition, match="may not be read"):
        repair(flat_store, drop_damaged=True)
    assert "may not be read" in verify(flat_store).problems[0]
    monkeypatch.undo()
    assert (read_manifest(flat_store).generation, verify(flat_store).problems) == (1, ())


def test_leftovers_and_the_lock(flat_store: Path) -> None:
    shutil.copytree(flat_store / SEGMENT, flat_store / "segments" / "00000002-000000")
    (flat_store / "write.lock").write_bytes(b"x")
    assert verify(flat_store).orphans
    report = repair(flat_store)
    assert (report.generation, [action.path for action in report.actions]) == (1, ["write.lock"])
    sound = verify(flat_store)
    assert (sound.problems, sound.orphans) == ((), ())


def test_a_sound_store_stays_as_it_is(store: Path) -> None:
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    report = repair(store)
    assert (report.generation, report.actions, report.unrepaired) == (1, (), ())
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == before


def test_what_cannot_be_repaired(flat_store: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        repair(tmp_path)
    for path in (flat_store / "manifest.json", *(flat_store / "generations").iterdir()):
        flip(path)
    with pytest.raises(DataLoss, match=r"manifest\.json is damaged"):
        repair(flat_store)
