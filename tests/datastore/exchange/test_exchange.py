"""Out as Parquet and back again: the same hits; and the files of others, joined by ids or by number."""

from __future__ import annotations

import datetime
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datastore.config import EncoderConfig, load_config
from datastore.encoders.hashing import HashingEncoder
from datastore.encoders.registry import open_encoder, settings_of
from datastore.errors import AlreadyExists, FailedPrecondition, InvalidArgument, ResourceExhausted
from datastore.exchange.export import export
from datastore.exchange.foreign import Batch, encoder_of_parquet, from_embeddings, from_faiss, from_parquet
from datastore.exchange.importing import ImportReport, import_passages
from datastore.exchange.restricted_pickle import read_arrays
from datastore.keeping.addition import add
from datastore.keeping.deletion import delete
from datastore.store.reader import StoreReader
from datastore.verify import verify
from retriever.api import Mode, SearchRequest
from retriever.client import open_store

MODES: tuple[Mode, ...] = ("bm25", "dense")
ENCODER = HashingEncoder()
Write = Callable[..., Path]


def hits(store: Path) -> list[object]:
    with closing(open_store(store)) as retriever:
        return [
            [(h.name, round(h.score, 4), h.text, h.title, h.source, h.attributes, h.start, h.end) for h in found.hits]
            for query in ("amber basalt", "number7 cedar")
            for mode in MODES
            for found in [retriever.search(SearchRequest(query, 100, mode))]
        ]


def take(batches: Any, store: Path, **options: Any) -> ImportReport:
    return import_passages(store, batches, load_config(None, {"encoder": {"name": "hashing"}}), ENCODER, **options)


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_export_and_back(flat_store: Path, tmp_path: Path, kind: Any) -> None:
    told: list[tuple[int, int]] = []
    report = export(flat_store, tmp_path / "out", vectors=kind, on_progress=lambda *done: told.append(done))
    assert (report.passages, report.generation, told[-1]) == (60, 1, (60, 60))
    files = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in files] == list(report.files)
    assert len(files) == len(list((flat_store / "segments").iterdir()))
    assert encoder_of_parquet(files[0]) == ENCODER.fingerprint
    done = take(from_parquet(files), tmp_path / "back")
    assert done.mean_cosine > 0.9999
    assert verify(tmp_path / "back").problems == ()
    assert hits(tmp_path / "back") == hits(flat_store)


def test_what_was_imported_is_compared_with_what_is_added(flat_store: Path, tmp_path: Path) -> None:
    export(flat_store, tmp_path / "out")
    settings: dict[str, dict[str, Any]] = {
        "encoder": {"name": "hashing"},
        "clean": {"duplicates": {"shingle_words": 2}},
    }
    batches = from_parquet(sorted((tmp_path / "out").iterdir()))
    import_passages(tmp_path / "store", batches, load_config(None, settings), ENCODER)
    with closing(StoreReader(flat_store)) as reader:
        (stored,) = reader.segments[1].passages.get([3])
    texts = {"same": stored.text, "near": f"{stored.text} of late", "new": "quite another text"}
    lines = [json.dumps({"_id": name, "text": text}) + "\n" for name, text in texts.items()]
    (tmp_path / "more.jsonl").write_text("".join(lines))
    done = add(tmp_path / "store", [str(tmp_path / "more.jsonl")], encoder=ENCODER)
    assert (done.documents, done.rejects.by_reason) == (1, {"exact duplicate": 1, "near duplicate": 1})
    assert verify(tmp_path / "store").problems == ()


def test_a_full_disk_leaves_no_half_export(flat_store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
    try:
        with pytest.raises(ResourceExhausted, match="no space left"):
            export(flat_store, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(folder.iterdir()) == []
    assert export(flat_store, folder).passages > 0


def test_what_a_killed_export_left_is_written_anew(flat_store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    whole = export(flat_store, folder)
    (folder / whole.files[0]).rename(folder / f"{whole.files[0]}.tmp")
    assert export(flat_store, folder) == whole
    assert sorted(path.name for path in folder.iterdir()) == sorted(whole.files)

    (folder / whole.files[0]).rename(folder / f"{whole.files[0]}.tmp")
    (folder / "notes.txt").write_text("somebody's")
    with pytest.raises(AlreadyExists, match="not empty"):
        export(flat_store, folder)


def test_rows_are_aligned_and_exact(flat_store: Path, tmp_path: Path) -> None:
    delete(flat_store, document_ids=["d3", "d20"])
    export(flat_store, tmp_path / "out")
    with closing(StoreReader(flat_store)) as reader:
        for segment in reader.segments:
            table = pq.read_table(tmp_path / "out" / f"{segment.segment_id}.parquet")
            rows = segment.live.rows
            passages = segment.passages.get(rows.tolist())
            assert table.column("text").to_pylist() == [passage.text for passage in passages]
            assert table.column("document_id").to_pylist() == [passage.document_id for passage in passages]
            vectors = np.stack(table.column("vector").to_numpy())
            np.testing.assert_array_equal(vectors, segment.vectors.read(rows))
    everything = pq.read_table(tmp_path / "out", columns=["document_id"]).column("document_id").to_pylist()
    assert len(everything) == 58
    assert not {"d3", "d20"} & set(everything)


def test_without_vectors(flat_store: Path, tmp_path: Path) -> None:
    export(flat_store, tmp_path / "out", vectors="none")
    assert "vector" not in pq.read_table(tmp_path / "out").column_names
    with pytest.raises(AlreadyExists, match="not empty"):
        export(flat_store, tmp_path / "out")


@pytest.fixture
def lines(tmp_path: Path) -> Write:
    """Writes passages as MassiveDS has them: text and a number."""

    def write(name: str, texts: list[str], first: int = 0) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps({"text": text, "id": first + i}) + "\n" for i, text in enumerate(texts)))
        return path

    return write


TEXTS = [f"harbour lantern number{i} amber{i % 7}" for i in range(40)]


def pickled(path: Path, expression: str, protocol: int) -> Path:
    """Written by Python's own module, in a process of its own, as the predecessors do."""
    program = f"import {'pickle'}, sys, numpy as np; v = np.load(sys.argv[1]); ids = list(range(len(v)))\n"
    program += f"open(sys.argv[2], 'wb').write({'pickle'}.dumps({expression}, {protocol}))"
    np.save(path.with_suffix(".npy"), ENCODER.encode_passages(TEXTS))
    subprocess.run([sys.executable, "-c", program, str(path.with_suffix(".npy")), str(path)], check=True)
    return path


FORMS = {
    "ids and vectors": "(ids, v)",
    "float16, texts as ids": "([str(i) for i in ids], v.astype('f2'))",
    "ids as an array": "(np.array(ids), v)",
    "in another order": "(ids[::-1], v[::-1])",
    "in Fortran's order": "(ids, np.asfortranarray(v))",
    "vectors alone": "v",
}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("form", FORMS)
def test_pickled_embeddings(lines: Write, tmp_path: Path, form: str, protocol: int) -> None:
    passages = lines("raw.jsonl", TEXTS)
    file = pickled(tmp_path / "e.pkl", FORMS[form], protocol)
    (batch,) = from_embeddings([passages], [file])
    assert [passage.document_id for passage in batch.passages] == [str(i) for i in range(40)]
    np.testing.assert_allclose(batch.vectors, ENCODER.encode_passages(TEXTS), atol=1e-3)


@pytest.mark.parametrize(
    "expression",
    [
        "eval",
        "getattr(__import__('os'), 'system')",
        "{'a': np.datetime64('now')}",
        "np.array([ids, 'x'], object)",
        "1j",
    ],
)
def test_nothing_else_is_taken_from_a_pickle(tmp_path: Path, expression: str) -> None:
    with pytest.raises(InvalidArgument, match="holds more than"):
        read_arrays(pickled(tmp_path / "e.pkl", expression, 4))


def test_nothing_in_a_pickle_is_called(tmp_path: Path) -> None:
    marker = tmp_path / "called"
    for program in (
        f"cos\nsystem\n(S'touch {marker}'\ntR.",
        f"cbuiltins\nopen\n(V{marker}\nVw\ntR.",
        f"(S'touch {marker}'\nios\nsystem\n.",
        "(lp0\n0.",
        "",
    ):
        (tmp_path / "evil.pkl").write_bytes(program.encode())
        with pytest.raises(InvalidArgument, match="holds more than"):
            read_arrays(tmp_path / "evil.pkl")
    assert not marker.exists()


def test_several_files(lines: Write, tmp_path: Path) -> None:
    files = [lines(f"raw-{i}.jsonl", TEXTS[20 * i : 20 * i + 20]) for i in range(2)]
    for i in range(2):
        np.save(tmp_path / f"e{i}.npy", ENCODER.encode_passages(TEXTS[20 * i : 20 * i + 20]))
    report = take(from_embeddings(files, [tmp_path / "e0.npy", tmp_path / "e1.npy"]), tmp_path / "store")
    assert (report.manifest.documents, report.exact) == (40, True)
    with closing(open_store(tmp_path / "store")) as retriever:
        for mode in MODES:
            assert retriever.search(SearchRequest("number31", 1, mode)).hits[0].document_id == "raw-1/11"
    # What belongs to other passages is noticed: by its number, or by what it says.
    with pytest.raises(InvalidArgument, match="20 vectors"):
        take(from_embeddings([files[0], lines("more.jsonl", TEXTS[:21])], [tmp_path / "e0.npy"] * 2), tmp_path / "b")
    with pytest.raises(FailedPrecondition, match="mean cosine"):
        take(from_embeddings(files, [tmp_path / "e1.npy", tmp_path / "e0.npy"]), tmp_path / "b")
    assert not list((tmp_path / "b").glob("segments/*"))


def test_faiss_indexes(lines: Write, tmp_path: Path) -> None:
    from datastore.ann.kinds.library import faiss

    vectors = ENCODER.encode_passages(TEXTS * 10)
    passages = lines("raw.jsonl", TEXTS * 10)
    for name, exact in (("Flat", True), ("IVF8,Flat", True), ("IVF8,SQ4", False)):
        index = faiss.index_factory(vectors.shape[1], name, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors)
        index.add(vectors)
        faiss.write_index(index, str(tmp_path / "index"))
        batches: list[Batch] = list(from_faiss(tmp_path / "index", [passages]))
        found = np.concatenate([batch.vectors for batch in batches])
        if exact:
            np.testing.assert_array_equal(found, vectors)
    report = take(batches, tmp_path / "store", exact=False)
    assert not report.exact
    assert 0.6 < report.mean_cosine <= 1
    assert verify(tmp_path / "store").problems == ()
    with pytest.raises(InvalidArgument, match="400 vectors"):
        list(from_faiss(tmp_path / "index", [lines("few.jsonl", TEXTS)]))


def test_what_does_not_fit_is_refused(lines: Write, tmp_path: Path) -> None:
    passages = lines("raw.jsonl", TEXTS)
    vectors = ENCODER.encode_passages(TEXTS)

    def refused(kind: type[Exception], match: str, given: np.ndarray[Any, Any]) -> None:
        np.save(tmp_path / "e.npy", given)
        with pytest.raises(kind, match=match):
            take(from_embeddings([passages], [tmp_path / "e.npy"]), tmp_path / "store")
        assert not (tmp_path / "store" / "manifest.json").exists()

    refused(FailedPrecondition, "have 128 dimensions", vectors[:, :128])
    refused(FailedPrecondition, "has the length", 3 * vectors)
    refused(FailedPrecondition, "mean cosine", vectors[::-1])
    refused(InvalidArgument, "39 vectors", vectors[:-1])
    refused(InvalidArgument, "no array of floats", vectors.astype(np.int64))
    lines("raw.jsonl", [*TEXTS[:39], TEXTS[0]])
    (tmp_path / "raw.jsonl").write_text((tmp_path / "raw.jsonl").read_text().replace('"id": 39', '"id": 0'))
    refused(InvalidArgument, "comes twice", ENCODER.encode_passages([*TEXTS[:39], TEXTS[0]]))


def test_records_that_are_not_what_they_should_be(lines: Write, tmp_path: Path) -> None:
    np.save(tmp_path / "e.npy", ENCODER.encode_passages(TEXTS[:1]))
    for record, match in (
        ({"text": "\ud800"}, "is no character"),
        ({"text": "x", "id": " "}, "the id is blank"),
        ({"text": "x", "attributes": "{"}, "record 0 cannot be read"),
        ({"text": "x", "chunk_index": "first"}, "'chunk_index' is 'first'"),
        ({"contents": 3}, "record 0 has no text"),
    ):
        (tmp_path / "raw.jsonl").write_text(json.dumps(record) + "\n")
        with pytest.raises(InvalidArgument, match=match):
            list(from_embeddings([tmp_path / "raw.jsonl"], [tmp_path / "e.npy"]))


def test_values_of_a_record_become_attributes_as_a_build_takes_them(tmp_path: Path) -> None:
    moment = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC)
    rows = [{"text": "x", "vector": [1.0, 0.0], "when": moment, "blob": b"\x00", "metadata": {"year": 1990}, "l": [1]}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    (batch,) = from_parquet([tmp_path / "p.parquet"])
    assert batch.passages[0].attributes == {"when": "2024-05-01T12:00:00+00:00", "year": 1990, "l": "[1]"}
    np.testing.assert_array_equal(batch.vectors, [[1.0, 0.0]])


def test_vectors_that_no_parquet_should_have(tmp_path: Path) -> None:
    for vectors, match in (
        ([[1.0, 2.0, 3.0], [1.0]], "different lengths, 1 to 3"),
        ([[1.0], None], "has no vector"),
        (["a", "b"], "'vector' is of string"),
        ([["a"], ["b"]], "vectors are of string"),
    ):
        pq.write_table(pa.table({"text": ["x", "y"], "vector": pa.array(vectors)}), tmp_path / "p.parquet")
        with pytest.raises(InvalidArgument, match=match):
            list(from_parquet([tmp_path / "p.parquet"]))
    pq.write_table(
        pa.table({"text": pa.array([], pa.string()), "vector": pa.array([], pa.list_(pa.float32()))}),
        tmp_path / "p.parquet",
    )
    assert list(from_parquet([tmp_path / "p.parquet"])) == []


def test_a_pickle_that_would_never_end(lines: Write, tmp_path: Path) -> None:
    # A list that has the one before it twice, sixty times over.
    program = "(lp0\n" + "".join(f"(g{i}\ng{i}\nlp{i + 1}\n" for i in range(60)) + "."
    (tmp_path / "e.pkl").write_bytes(program.encode())
    assert len(read_arrays(tmp_path / "e.pkl")) == 2
    with pytest.raises(InvalidArgument):
        list(from_embeddings([lines("raw.jsonl", TEXTS)], [tmp_path / "e.pkl"]))


def test_an_export_says_with_which_prompts_it_was_encoded(tmp_path: Path) -> None:
    config = EncoderConfig(name="wordllama-256", query_prompt="query: ", normalize=False)
    fingerprint = open_encoder(config).fingerprint
    assert open_encoder(settings_of(fingerprint)).fingerprint == fingerprint
