"""What a build makes: every part of the store holds the same passages, in the order of the input."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from datastore.ann.index import candidates
from datastore.build import build
from datastore.chunking.words import chunk_words
from datastore.config import IndexConfig, SegmentConfig, segment_limit
from datastore.documents import Passage
from datastore.encoders.hashing import HashingEncoder
from datastore.errors import InvalidArgument
from datastore.info import describe_store
from datastore.sources.inputs import open_inputs
from datastore.sources.rejects import Rejects
from datastore.store.manifest import Manifest, read_manifest
from datastore.store.reader import StoreReader
from datastore.tasks.progress import BuildProgress
from datastore.verify import verify

if TYPE_CHECKING:
    from tests.datastore.conftest import Config, WriteDocuments


def passages_of(source: Path, words: int) -> list[Passage]:
    documents = open_inputs([str(source)], Rejects(source.parent / "unused"))
    return [passage for document in documents for passage in chunk_words(document, words)]


def check_parts(store: Path, expected: list[Passage]) -> None:
    """Row by row, every part of the store must be that passage's."""
    encoder = HashingEncoder()
    vectors = encoder.encode_passages([passage.indexed_text for passage in expected])
    reader = StoreReader(store)
    start = 0
    for segment in reader.segments:
        rows = np.arange(segment.vectors.rows)
        mine = expected[start : start + len(rows)]
        assert segment.passages.get(rows.tolist()) == mine
        assert segment.columns.names(rows) == [passage.name for passage in mine]
        assert segment.columns.table.column("source").to_pylist() == [passage.source for passage in mine]
        np.testing.assert_array_equal(segment.vectors.matrix, vectors[start : start + len(rows)].astype(np.float16))
        assert segment.passages.find([passage.name for passage in mine]) == rows.tolist()
        for row in {0, len(rows) // 2, len(rows) - 1}:
            found = candidates(reader.ann, vectors[start + row][None], len(expected), 4)[0]
            stored = reader.vectors.read(found) @ vectors[start + row]
            assert start + row in found[stored >= stored.max() - 1e-3]
        start += len(rows)
    assert start == len(expected)
    assert reader.bm25 is not None
    assert reader.bm25.passage_count == len(expected)
    for row in range(0, len(expected), 7):
        query = expected[row].indexed_text
        best, scores = reader.bm25.search(query, len(expected))
        assert row in best[scores >= scores.max() - 1e-4]
    reader.close()


@pytest.mark.parametrize("kind", ["flat", "ivf-pq", "ivf-pq4", "ivf-rabitq"])
def test_every_part_holds_the_same_passages(
    tmp_path: Path, config: Config, write_documents: WriteDocuments, kind: str
) -> None:
    source = write_documents(tmp_path / "items.jsonl", 200)
    settings = config(
        chunk={"words": 6},
        segment={"passages": 90},
        index={"kind": kind} if kind == "flat" else {"kind": kind, "nlist": 4, "pq_m": 8},
    )
    manifest = build([str(source)], tmp_path / "store", settings)
    expected = passages_of(source, 6)
    assert manifest.passages == len(expected) > 256
    assert manifest.documents == 200
    assert len(manifest.segments) > 3
    check_parts(tmp_path / "store", expected)
    assert verify(tmp_path / "store").problems == ()


def test_a_beir_folder(tmp_path: Path, config: Config) -> None:
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    records = [{"_id": str(i), "title": f"Title {i}" if i % 2 else "", "text": f"text of {i}"} for i in range(20)]
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, records)).encode()))
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "a query"}\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\t3\t1\n")
    manifest = build([str(folder)], tmp_path / "store", config(chunk={"words": 0}))
    assert manifest.documents == manifest.passages == 20
    check_parts(tmp_path / "store", passages_of(folder, 0))


def test_several_inputs_in_their_order(tmp_path: Path, config: Config, write_documents: WriteDocuments) -> None:
    (tmp_path / "b.md").write_text("# Notes\nof the keeper")
    (tmp_path / "a.txt").write_text("log of the keeper")
    items = write_documents(tmp_path / "items.jsonl", 5)
    build([str(tmp_path / "b.md"), str(items), str(tmp_path / "a.txt")], tmp_path / "store", config())
    reader = StoreReader(tmp_path / "store")
    names = reader.segments[0].columns.names(np.arange(7))
    reader.close()
    assert [name.document_id for name in names] == ["b.md", "d0", "d1", "d2", "d3", "d4", "a.txt"]


@pytest.mark.parametrize("kind", ["ivf-pq", "ivf-pq4", "ivf-rabitq"])
def test_the_same_input_gives_the_same_passages_and_vectors(
    tmp_path: Path, config: Config, write_documents: WriteDocuments, kind: str
) -> None:
    source = write_documents(tmp_path / "items.jsonl", 300)
    settings = config(index={"kind": kind, "nlist": 4, "pq_m": 8})
    manifests = [build([str(source)], tmp_path / name, settings) for name in ("one", "two")]
    one, two = (
        {
            record.path: record.xxh3_128
            for record in manifest.files()
            if record.path.endswith((".f16", ".arrow", ".faiss", ".lists", ".npz"))
        }
        for manifest in manifests
    )
    assert one == two
    assert len(one) == 4
    assert manifests[0].datastore_id != manifests[1].datastore_id


def test_segments_end_with_documents(tmp_path: Path, config: Config) -> None:
    with (tmp_path / "x.jsonl").open("w") as lines:
        lines.writelines(json.dumps({"_id": f"d{i}", "text": "word " * (10 * i)}) + "\n" for i in range(1, 12))
    manifest = build(
        [str(tmp_path / "x.jsonl")], tmp_path / "store", config(chunk={"words": 10}, segment={"passages": 8})
    )
    assert [segment.passages for segment in manifest.segments] == [1 + 2 + 3 + 4, 5 + 6, 7 + 8, 9, 10, 11]
    assert [segment.segment_id for segment in manifest.segments] == [f"00000001-{i:06d}" for i in range(6)]
    check_parts(tmp_path / "store", passages_of(tmp_path / "x.jsonl", 10))


@pytest.mark.parametrize(
    ("passages", "so_far", "limit"),
    [(None, 0, 1024), (None, 8191, 1024), (None, 16_000, 2000), (None, 10**9, 131_072), (7, 10**9, 7)],
)
def test_segment_limit(passages: int | None, so_far: int, limit: int) -> None:
    assert segment_limit(SegmentConfig(passages), so_far) == limit


def test_a_batch_of_large_passages_is_cut(
    tmp_path: Path, config: Config, write_documents: WriteDocuments, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_documents(tmp_path / "items.jsonl", 60)
    sizes = []
    encode = HashingEncoder.encode_passages

    def watched(self: HashingEncoder, texts: list[str]) -> object:
        sizes.append(len(texts))
        return encode(self, texts)

    monkeypatch.setattr(HashingEncoder, "encode_passages", watched)
    monkeypatch.setattr("datastore.segmenting._BATCH_CHARACTERS", 300)
    build([str(source)], tmp_path / "store", config())
    assert sum(sizes) == 60
    assert max(sizes) < 12
    monkeypatch.undo()
    check_parts(tmp_path / "store", passages_of(source, 256))


def test_the_manifest_says_how_it_was_built(tmp_path: Path, config: Config, write_documents: WriteDocuments) -> None:
    source = write_documents(tmp_path / "items.jsonl", 10)
    settings = config(chunk={"words": 3}, bm25={"k1": 1.2, "b": 0.75, "analyzer": "whitespace"})
    manifest = build([str(source)], tmp_path / "store", settings)
    assert read_manifest(tmp_path / "store") == manifest
    assert manifest.config == settings
    assert manifest.encoder == HashingEncoder.fingerprint
    assert (manifest.generation, manifest.metric, manifest.index.kind) == (1, "inner_product", "flat")
    assert manifest.config.index == IndexConfig()
    on_disk = {path for path in (tmp_path / "store").rglob("*") if path.is_file()}
    recorded = {tmp_path / "store" / record.path for record in manifest.files()}
    beside = ("manifest.json", "generations/00000001.json", "write.lock")
    assert on_disk - recorded == {tmp_path / "store" / name for name in beside}


def test_info(flat_store: Path, ivf_store: Path) -> None:
    info = describe_store(flat_store)
    assert (info.documents, info.passages, info.segments, info.rejected) == (60, 60, 5, 0)
    assert (info.index, info.metric, info.generation, info.format_version) == ("flat", "inner_product", 1, 1)
    assert info.bm25 == {"analyzer": "english", "k1": 0.9, "b": 0.4}
    assert info.words == sum(5 + i % 11 + 1 for i in range(60))
    assert info.tokens == info.words + 2 * 60  # the encoder reads titles, too
    sizes = {path: path.stat().st_size for path in flat_store.rglob("*") if path.is_file()}
    assert info.bytes_by_part["vectors"] == 60 * 256 * 2 + sum(sizes[path] for path in flat_store.rglob("*.xxh3"))
    assert info.bytes_by_part["passages"] == sum(size for path, size in sizes.items() if path.parent.name == "passages")
    assert info.bytes_by_part["index"] == 0
    assert info.bytes_by_part["other"] == sizes[flat_store / "build-log.jsonl"]
    assert info.bytes_total == sum(info.bytes_by_part.values())
    assert info.bytes_total == sum(sizes.values()) - 2 * sizes[flat_store / "manifest.json"]  # and its copy
    assert info.bytes_per_passage == info.bytes_total / 60

    info = describe_store(ivf_store)
    assert info.index == "ivf-pq (nlist 4, 8 bytes a code)"
    assert info.bytes_by_part["index"] == sum(path.stat().st_size for path in ivf_store.rglob("*.faiss"))


def test_progress(tmp_path: Path, config: Config, write_documents: WriteDocuments) -> None:
    source = write_documents(tmp_path / "items.jsonl", 1200)
    steps: list[BuildProgress] = []
    build([str(source)], tmp_path / "store", config(), steps.append)
    stages = [step.stage for step in steps]
    assert list(dict.fromkeys(stages)) == ["scan", "passages", "index", "publish"]
    for stage in ("passages", "index"):
        counts = [step.passages for step in steps if step.stage == stage]
        assert counts == sorted(counts)
        assert counts[-1] == 1200
    assert all(step.documents <= 1200 and step.rejected == 0 for step in steps)


BAD = ['{"_id": "b1", "text": 7}', "not json", '{"_id": "d0", "text": "again"}', '{"_id": "b2"}']


def with_bad_lines(path: Path, write_documents: WriteDocuments, good: int) -> Path:
    write_documents(path, good)
    with path.open("a") as lines:
        lines.write("\n".join(BAD) + "\n")
    return path


def test_rejects_are_counted_and_kept(tmp_path: Path, config: Config, write_documents: WriteDocuments) -> None:
    source = with_bad_lines(tmp_path / "items.jsonl", write_documents, 36)
    manifest = build([str(source)], tmp_path / "store", config(input={"max_rejected_share": 0.1}))
    rejects = manifest.rejects
    assert (manifest.documents, rejects.total) == (36, 4)
    assert rejects.by_reason == {"duplicate id": 1, "no text": 1, "not JSON": 1, "wrong type": 1}
    assert rejects.file is not None
    lines = (tmp_path / "store" / rejects.file.path).read_text().splitlines()
    assert [json.loads(line)["line"] for line in lines] == [37, 38, 39, 40]
    assert describe_store(tmp_path / "store").rejected == 4
    assert verify(tmp_path / "store").problems == ()


def test_too_many_rejects(tmp_path: Path, config: Config, write_documents: WriteDocuments) -> None:
    source = with_bad_lines(tmp_path / "items.jsonl", write_documents, 35)
    with pytest.raises(InvalidArgument, match=r"4 of 39 input records .*share allowed, 0\.1;") as caught:
        build([str(source)], tmp_path / "store", config(input={"max_rejected_share": 0.1}))
    rejects = tmp_path / "store" / "rejects-1.jsonl"
    assert str(rejects) in caught.value.mend
    assert len(rejects.read_text().splitlines()) == 4
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["rejects-1.jsonl", "write.lock"]

    manifest: Manifest = build([str(source)], tmp_path / "store", config(input={"max_rejected_share": 0.2}))
    assert manifest.rejects.total == 4
    assert verify(tmp_path / "store").problems == ()
