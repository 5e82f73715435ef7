"""The operating curve is published with the store: by a build, and by `tune` as a generation of the same segments."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from datastore.ann.operating_curve import OperatingCurve
from datastore.build import build
from datastore.encoders.hashing import HashingEncoder
from datastore.errors import InvalidArgument, NotFound, Unavailable
from datastore.store.checksums import hash_bytes
from datastore.store.lock import write_lock
from datastore.store.manifest import GENERATIONS_FOLDER, MANIFEST_NAME, read_manifest
from datastore.tasks.progress import BuildProgress
from datastore.tune import TuneOptions, tune
from datastore.verify import verify

if TYPE_CHECKING:
    from tests.datastore.conftest import Config, WriteDocuments


def untimed(curve: OperatingCurve | None) -> OperatingCurve:
    assert curve is not None
    curves = (replace(part, points=tuple(replace(p, milliseconds=0.0) for p in part.points)) for part in curve.curves)
    return replace(curve, curves=tuple(curves))


def test_a_build_leaves_a_curve(tmp_path: Path, config: Config, write_documents: WriteDocuments) -> None:
    source = write_documents(tmp_path / "items.jsonl", 300)
    steps: list[BuildProgress] = []
    settings = config(index={"kind": "ivf-pq4", "nlist": 8, "tune_queries": 50}, segment={"passages": 150})
    manifest = build([str(source)], tmp_path / "store", settings, steps.append)
    assert read_manifest(tmp_path / "store") == manifest
    curve = manifest.operating_curve
    assert curve is not None
    assert (curve.source, curve.queries, curve.generation) == ("passages", 50, 1)
    assert (curve.passages, curve.measured_passages) == (300, 300)
    assert [part.k for part in curve.curves] == [10, 100]
    assert list(dict.fromkeys(step.stage for step in steps)) == [
        "scan",
        "passages",
        "index",
        "truth",
        "sweep",
        "publish",
    ]
    off = config(index={"kind": "ivf-pq4", "nlist": 8, "tune_queries": 0})
    assert build([str(source)], tmp_path / "off", off).operating_curve is None


def stamps(store: Path) -> dict[Path, int]:
    """When each file that generations share was written."""
    own = (MANIFEST_NAME, GENERATIONS_FOLDER)
    return {path: path.stat().st_mtime_ns for path in store.rglob("*") if not {path.name, path.parent.name} & {*own}}


def test_a_new_generation_of_the_same_segments(ivf_store: Path) -> None:
    before = read_manifest(ivf_store)
    files = stamps(ivf_store)
    tuned = tune(ivf_store, TuneOptions(queries=120, ks=(20, 5, 5), seed=3))
    assert read_manifest(ivf_store) == tuned
    assert tuned.generation == 2
    assert tuned == replace(
        before, generation=2, created=tuned.created, writer=tuned.writer, operating_curve=tuned.operating_curve
    )
    curve = untimed(tuned.operating_curve)
    assert [part.k for part in curve.curves] == [5, 20]
    assert (curve.queries, curve.seed, curve.generation) == (120, 3, 1)
    assert untimed(tune(ivf_store, TuneOptions(120, (5, 20), 3)).operating_curve) == replace(curve, generation=2)
    assert files == stamps(ivf_store)
    assert (verify(ivf_store).problems, verify(ivf_store).orphans) == ((), ())


def test_a_manifest_without_the_field_was_not_measured(ivf_store: Path) -> None:
    """As all were before there was one; it is no feature that a reader must know."""
    path = ivf_store / MANIFEST_NAME
    tree = json.loads(path.read_text())
    assert tree.pop("operating_curve")
    assert tree["required_features"] == []
    text = json.dumps(tree | {"manifest_xxh3_128": "0" * 32})
    path.write_text(text.replace("0" * 32, hash_bytes(text.encode())))
    assert read_manifest(ivf_store).operating_curve is None


def test_real_queries(ivf_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []
    encode = HashingEncoder.encode_queries

    def watched(self: HashingEncoder, texts: list[str]) -> object:
        encoded.extend(texts)
        return encode(self, texts)

    monkeypatch.setattr(HashingEncoder, "encode_queries", watched)
    texts = [f"amber basalt number{i}" for i in range(40)] + ["", "  "]
    curve = untimed(tune(ivf_store, TuneOptions(30, (10,)), texts=texts).operating_curve)
    assert (curve.source, curve.queries) == ("queries", 30)
    assert len(encoded) == len(set(encoded)) == 30
    assert set(encoded) < set(texts)
    with pytest.raises(InvalidArgument, match="none of the 2 queries has any text"):
        tune(ivf_store, TuneOptions(), texts=["", " "])
    with pytest.raises(InvalidArgument, match="no encoder is called 'nobodys'"):
        tune(ivf_store, TuneOptions(), texts=texts, encoder="nobodys")


def test_a_sample_of_segments(ivf_store: Path) -> None:
    curve = untimed(tune(ivf_store, TuneOptions(50, (10,), max_passages=100)).operating_curve)
    assert (curve.passages, curve.measured_passages) == (300, 150)
    everything = untimed(tune(ivf_store, TuneOptions(50, (10,), max_passages=151)).operating_curve)
    assert everything.measured_passages == 300


def test_a_flat_index_has_nothing_to_tune(flat_store: Path) -> None:
    before = read_manifest(flat_store)
    assert tune(flat_store, TuneOptions()) == before == read_manifest(flat_store)
    assert before.operating_curve is None


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (TuneOptions(queries=0), "sample"),
        (TuneOptions(queries=10**9), "sample"),
        (TuneOptions(ks=(0,)), "k"),
        (TuneOptions(ks=()), "k"),
        (TuneOptions(ks=(10, 5000)), "k"),
        (TuneOptions(ks=(300,)), "k"),
        (TuneOptions(seed=-1), "seed"),
        (TuneOptions(max_passages=0), "max_passages"),
    ],
)
def test_options_out_of_their_bounds(ivf_store: Path, options: TuneOptions, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        tune(ivf_store, options)
    assert caught.value.field == field
    assert read_manifest(ivf_store).generation == 1


def test_one_writer_at_a_time(ivf_store: Path, tmp_path: Path) -> None:
    with write_lock(ivf_store), pytest.raises(Unavailable, match="another process is writing"):
        tune(ivf_store, TuneOptions())
    with pytest.raises(NotFound, match="no datastore"):
        tune(tmp_path / "nothing", TuneOptions())
    assert not (tmp_path / "nothing").exists()


def test_queries_that_point_nowhere(tmp_path: Path, config: Config) -> None:
    """Vectors of nothing but zeros score 0 with every passage: all tie."""
    with (tmp_path / "x.jsonl").open("w") as lines:
        lines.writelines(json.dumps({"_id": f"d{i}", "title": "?!", "text": ""}) + "\n" for i in range(20))
        lines.writelines(json.dumps({"_id": f"e{i}", "text": f"word{i} word{i % 7}"}) + "\n" for i in range(280))
    settings = config(index={"kind": "ivf-pq4", "nlist": 4, "tune_queries": 300})
    curve = untimed(build([str(tmp_path / "x.jsonl")], tmp_path / "store", settings).operating_curve)
    assert np.isfinite([point.recall for part in curve.curves for point in part.points]).all()
