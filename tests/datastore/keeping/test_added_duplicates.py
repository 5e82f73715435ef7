"""Additions leave out texts that the datastore has, as a build would: against a comparison of all pairs."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from datastore.documents import Document
from datastore.errors import DataLoss
from datastore.keeping.addition import Adder, Addition, add
from datastore.keeping.compaction import compact
from datastore.keeping.deletion import delete
from datastore.repairing.repair import repair
from datastore.snapshots.snapshot import restore, snapshot
from datastore.store.document_keys import SortedKeys
from datastore.store.manifest import publish, read_manifest
from datastore.store.reader import StoreReader
from datastore.verify import verify

if TYPE_CHECKING:
    from tests.datastore.keeping.conftest import Record, Stores

SETTINGS = {"shingle_words": 3}


def records(documents: Iterable[Document]) -> list[Record]:
    return [{"_id": document.document_id, "text": document.text, "title": document.title} for document in documents]


def plain_shingles(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[i : i + 3]) for i in range(max(len(words) - 2, 1))}


def alike(one: Document, other: Document) -> bool:
    a, b = plain_shingles(one.text), plain_shingles(other.text)
    return len(a & b) >= 0.8 * len(a | b)


def what_stays(stored: Sequence[Document], new: Sequence[Document]) -> list[Document]:
    """By comparing all with all: of each set of similar ones what is stored, or else the first."""
    everything = [*stored, *new]
    groups = list(range(len(everything)))
    for i, j in itertools.combinations(range(len(everything)), 2):
        if groups[i] != groups[j] and alike(everything[i], everything[j]):
            first, second = sorted((groups[i], groups[j]))
            groups = [first if group == second else group for group in groups]
    return [*stored, *(everything[i] for i in range(len(stored), len(everything)) if groups[i] == i)]


def make_copies(source: random.Random, families: int, changes: int) -> list[Document]:
    """Families of texts of 40 words of which up to `changes` differ from the first's; some are the same."""
    texts = []
    for _ in range(families):
        words = [f"w{source.randrange(10_000)}" for _ in range(40)]
        texts.append(words)
        for _ in range(source.randrange(4)):
            changed = list(words)
            for _ in range(source.randrange(changes + 1)):
                changed[source.randrange(40)] = f"x{source.randrange(10_000)}"
            texts.append(changed)
    source.shuffle(texts)
    return [Document(f"d{i}", " ".join(words)) for i, words in enumerate(texts)]


def ids(store: Path) -> set[str]:
    with closing(StoreReader(store)) as reader:
        return {name.document_id for segment in reader.segments for name in segment.columns.names(segment.live.rows)}


def sound(store: Path) -> bool:
    report = verify(store)
    return (report.problems, report.orphans) == ((), ())


def rejects(done: Addition, store: Path) -> list[dict[str, Any]]:
    assert done.rejects.file is not None
    return [json.loads(line) for line in (store / done.rejects.file.path).read_text().splitlines()]


class Kept:
    """A store in a folder, to which documents are added."""

    def __init__(self, folder: Path, stores: Stores, **settings: Any) -> None:
        self._folder = folder
        self._stores = stores
        self._settings = {"clean": {"duplicates": SETTINGS}} | settings
        self.store = folder / "store"

    def build(self, documents: Iterable[Document]) -> Kept:
        self._stores.build(self._folder, records(documents), **self._settings)
        return self

    def add(self, *documents: Document, **options: Any) -> Addition:
        return add(self.store, [self._stores.write(self._folder / "more.jsonl", records(documents))], **options)


@pytest.fixture
def kept(tmp_path: Path, stores: Stores) -> Kept:
    return Kept(tmp_path, stores)


TEXT = " ".join(f"word{i}" for i in range(40))
OTHER = " ".join(f"other{i}" for i in range(40))
THIRD = " ".join(f"third{i}" for i in range(40))


@pytest.mark.parametrize("cuts", [(20,), (1, 20, 40)])
def test_what_is_left_out_against_all_pairs(kept: Kept, cuts: Sequence[int]) -> None:
    """Texts of several passages, in several segments; copies of copies, which are joined by way of others."""
    documents = make_copies(random.Random(3), 25, 3)
    bounds = [0, *cuts, len(documents)]
    steps = [documents[start:end] for start, end in itertools.pairwise(bounds)]
    kept.build(steps[0])
    expected = what_stays([], steps[0])
    for step in steps[1:]:
        before = expected
        expected = what_stays(expected, step)
        done = kept.add(*step)
        assert done.documents == len(expected) - len(before)
        assert done.rejects.total == len(step) - done.documents
        assert ids(kept.store) == {document.document_id for document in expected}
    assert len(expected) < len(documents) - 10
    assert sound(kept.store)


def test_one_build_or_additions(tmp_path: Path, stores: Stores) -> None:
    """Where all of a family are like one another, the first stays whichever way they come, and it is said why."""
    source = random.Random(5)
    bases = [" ".join(f"w{source.randrange(10_000)}" for _ in range(40)) for _ in range(30)]
    texts = [base + f" x{i}" * (i % 3 > 0) for base in bases for i in range(source.randrange(1, 5))]
    source.shuffle(texts)
    documents = [Document(f"d{i}", text) for i, text in enumerate(texts)]
    whole = Kept(tmp_path / "whole", stores).build(documents)
    parts = Kept(tmp_path / "parts", stores).build(documents[:30])
    told = []
    for step in (documents[30:50], documents[50:]):
        told += [(reject["excerpt"], reject["reason"]) for reject in rejects(parts.add(*step), parts.store)]
    file = read_manifest(whole.store).rejects.file
    assert file is not None
    refused = [json.loads(line) for line in (whole.store / file.path).read_text().splitlines()]
    assert [(each["excerpt"], each["reason"]) for each in refused if each["line"] > 30] == told
    assert len(told) > 10
    assert len({reason for _, reason in told}) == 2
    assert keys_by_id(parts.store) == keys_by_id(whole.store)


def keys_by_id(store: Path) -> dict[str, tuple[list[int], list[int]]]:
    """What the documents that are there are recognized by."""
    found = {}
    with closing(StoreReader(store)) as reader:
        for record, segment in zip(reader.manifest.segments, reader.segments, strict=True):
            keys = SortedKeys(store, record).document_keys()
            for name, digest, bands in zip(
                segment.columns.names(keys.rows.astype(np.int64)), keys.digests, keys.bands, strict=True
            ):
                found[name.document_id] = digest.tolist(), bands.tolist()
    return found


def test_what_is_said_of_them(kept: Kept) -> None:
    kept.build([Document("a", TEXT), Document("t", "", "A title alone")])
    done = kept.add(
        Document("b", TEXT),
        Document("c", f"{TEXT} more"),
        Document("new", OTHER),
        Document("a", THIRD),
        Document("e", OTHER),
        Document("u", "", "A title alone"),
    )
    assert (done.documents, done.known) == (1, 1)
    assert done.rejects.by_reason == {"duplicate id": 1, "exact duplicate": 3, "near duplicate": 1}
    assert [(each["line"], each["detail"]) for each in rejects(done, kept.store)] == [
        (1, "the text of the document 'a', which the datastore has"),
        (2, "Jaccard 0.97 with the document 'a', which the datastore has"),
        (4, "the datastore has a document 'a'"),
        (5, "the text of the document 'new', which came before"),
        (6, "the text of the document 't', which the datastore has"),
    ]
    assert (done.manifest.generation, ids(kept.store)) == (2, {"a", "t", "new"})


def test_an_addition_of_nothing_but_duplicates_changes_nothing(kept: Kept) -> None:
    before = read_manifest(kept.build([Document("a", TEXT)]).store)
    done = kept.add(Document("b", TEXT))
    assert (done.manifest, done.documents, done.rejects.by_reason) == (before, 0, {"exact duplicate": 1})
    assert rejects(done, kept.store)[0]["detail"] == "the text of the document 'a', which the datastore has"
    assert read_manifest(kept.store) == before
    kept.add(Document("c", OTHER))
    assert sound(kept.store)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"near": False}, {"a", "near", "spaced"}),
        ({"exact": False}, {"a"}),
        ({"exact": False, "near": False}, {"a", "same", "near", "spaced"}),
    ],
)
def test_kinds_of_duplicates(tmp_path: Path, stores: Stores, settings: dict[str, bool], expected: set[str]) -> None:
    kept = Kept(tmp_path, stores, clean={"duplicates": SETTINGS | settings}).build([Document("a", TEXT)])
    kept.add(Document("same", TEXT), Document("near", f"{TEXT} more"), Document("spaced", TEXT.replace(" ", "  ")))
    assert ids(kept.store) == expected
    assert compact(kept.store).manifest.documents == len(expected)
    assert sound(kept.store)


def test_what_is_deleted_stands_for_nobody(kept: Kept) -> None:
    kept.build([Document("a", TEXT), Document("x", OTHER)])
    delete(kept.store, document_ids=["a"])
    assert kept.add(Document("b", TEXT), Document("y", OTHER)).documents == 1
    delete(kept.store, document_ids=["b", "x"])
    compact_and_look(kept.store, gone=[TEXT, OTHER])
    kept.add(Document("c", f"{TEXT} more"), Document("d", THIRD))
    assert ids(kept.store) == {"c", "d"}


def compact_and_look(store: Path, gone: Sequence[str]) -> None:
    """After it no file has the digest of a text that is gone, in either half."""
    compact(store)
    halves = [
        digest[i : i + 8]
        for text in gone
        for digest in [blake2b(text.encode(), digest_size=16).digest()]
        for i in (0, 8)
    ]
    for path in store.rglob("*"):
        if path.is_file():
            assert not [half for half in halves if half in path.read_bytes()], path
    assert sound(store)


def test_updates(kept: Kept) -> None:
    kept.build([Document("a", TEXT), Document("b", OTHER), Document("c", THIRD)])
    same = kept.add(Document("a", f"{TEXT} more"), replace_known=True)
    assert (same.documents, same.replaced, same.rejects.total) == (1, 1, 0)
    # Each takes the other's text, which the datastore then has no longer.
    swapped = kept.add(Document("a", OTHER), Document("b", TEXT), replace_known=True)
    assert (swapped.documents, swapped.replaced, swapped.rejects.total) == (2, 2, 0)
    # A document that has become what another is goes: what it was is superseded, and what it is is there.
    gone = kept.add(Document("b", THIRD), replace_known=True)
    assert (gone.documents, gone.replaced, gone.rejects.by_reason) == (0, 1, {"exact duplicate": 1})
    assert ids(kept.store) == {"a", "c"}
    assert kept.add(Document("d", TEXT)).documents == 1
    assert sound(kept.store)


def distinct(count: int) -> list[Document]:
    return [Document(f"d{i}", " ".join(f"w{i}-{j}" for j in range(20))) for i in range(count)]


def test_keys_come_along_when_segments_are_merged(kept: Kept, tmp_path: Path, stores: Stores) -> None:
    texts = distinct(14)
    kept.build(texts[:4])
    with Adder(kept.store) as adder:
        for document in texts[4:]:
            merged = adder.add([stores.write(tmp_path / "one.jsonl", records([document]))]).manifest
    assert len(merged.segments) < 8
    again = [Document(f"again-{document.document_id}", f"{document.text} more") for document in texts]
    assert kept.add(*again, Document("new", TEXT)).rejects.by_reason == {"near duplicate": 14}
    delete(kept.store, document_ids=["d3"])
    compact(kept.store)
    assert sound(kept.store)
    fresh = Kept(tmp_path / "fresh", stores).build([*texts[:3], *texts[4:], Document("new", TEXT)])
    assert keys_by_id(kept.store) == keys_by_id(fresh.store)


def without_keys(store: Path) -> None:
    """Make of a store what an earlier version would have written."""
    manifest = read_manifest(store)
    segments = []
    for record in manifest.segments:
        (store / "segments" / record.segment_id / "signatures.keys").unlink()
        files = tuple(file for file in record.files if not file.path.endswith("signatures.keys"))
        segments.append(replace(record, files=files))
    publish(store, replace(manifest, segments=tuple(segments)))


def test_segments_without_keys_get_them_when_they_are_rewritten(kept: Kept, tmp_path: Path, stores: Stores) -> None:
    texts = [*distinct(5), Document("long", TEXT), Document("t", "", "A title alone")]
    kept.build(texts)
    wanted = keys_by_id(kept.store)
    without_keys(kept.store)
    assert sound(kept.store)
    assert kept.add(Document("b", f"{TEXT} more")).documents == 1
    delete(kept.store, document_ids=["b", "d0"])
    compact(kept.store)
    del wanted["d0"]
    assert keys_by_id(kept.store) == wanted
    assert kept.add(Document("c", f"{TEXT} more")).rejects.by_reason == {"near duplicate": 1}


def test_a_damaged_file_is_named_and_made_anew(kept: Kept) -> None:
    wanted = keys_by_id(kept.build([*distinct(5), Document("long", TEXT)]).store)
    (record,) = read_manifest(kept.store).segments
    path = kept.store / "segments" / record.segment_id / "signatures.keys"
    content = path.read_bytes()
    for place in range(0, len(content), 97):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x80]) + content[place + 1 :])
        assert [problem for problem in verify(kept.store).problems if str(path) in problem]
    path.write_bytes(content[:-4])
    with pytest.raises(DataLoss, match=r"signatures\.keys"):
        kept.add(Document("c", TEXT))
    assert repair(kept.store).unrepaired == ()
    assert keys_by_id(kept.store) == wanted
    assert kept.add(Document("c", TEXT)).rejects.by_reason == {"exact duplicate": 1}


def test_rows_that_are_none_are_damage(kept: Kept) -> None:
    kept.build([Document("a", TEXT)])
    (record,) = read_manifest(kept.store).segments
    path = kept.store / "segments" / record.segment_id / "signatures.keys"
    content = path.read_bytes()
    path.write_bytes(content[: 16 + 8 * 27] + b"\xff" * (4 * 26))
    with pytest.raises(DataLoss, match="it names row"):
        kept.add(Document("c", TEXT))


def test_other_parts_that_are_repaired_and_restored_keep_the_keys(kept: Kept, tmp_path: Path) -> None:
    wanted = keys_by_id(kept.build([Document("s", f" {OTHER}\n"), *distinct(5)]).store)
    (record,) = read_manifest(kept.store).segments
    (kept.store / "segments" / record.segment_id / "columns.arrow").write_bytes(b"")
    assert repair(kept.store).unrepaired == ()
    assert keys_by_id(kept.store) == wanted
    snapshot(kept.store, str(tmp_path / "copy"))
    restore(str(tmp_path / "copy"), tmp_path / "restored")
    assert keys_by_id(tmp_path / "restored") == wanted
