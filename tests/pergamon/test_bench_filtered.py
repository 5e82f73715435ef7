"""`pergamon bench filtered`, from vectors to tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bench.ann.dataset import DatasetPlan, take_arrays
from datastore.errors import InvalidArgument
from pergamon.cli import app


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for name, rows in (("base", 3000), ("queries", 100)):
        vectors = generator.normal(size=(rows, 16)).astype(np.float32)
        np.save(tmp_path / f"{name}.npy", vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    take_arrays(tmp_path / "base.npy", tmp_path / "queries.npy", DatasetPlan(), tmp_path / "dataset")
    return tmp_path / "dataset"


def test_every_filter_is_measured_and_the_store_kept(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    options = ["--dataset", str(dataset), "--out", str(out), "--queries", "20", "--grouped", "40", "--json"]
    done = CliRunner().invoke(
        app, ["bench", "filtered", *options, "--label", "small", "--nprobe", "76", "--candidate-depth", "300"]
    )
    assert done.exit_code == 0, done.output
    results = json.loads(done.stdout)
    survivors = {case["case"]["where"]: case["case"]["survivors"] for case in results["cases"]}
    assert survivors[None] == 3000
    assert survivors["region_0 < 0.1"] == 300
    assert 200 < survivors["uniform < 0.1"] < 400
    assert min(min(case["new_recall"], case["known_recall"]) for case in results["cases"]) > 0.95
    assert {point["where"] for point in results["predicates"]} > {"year = 2007"}
    assert {point["share"] for point in results["grouped"]} == {0.1, 0.01, 0.001}
    assert json.loads((out / "filtered-small.json").read_text()) == results
    table = (out / "filtered-small.md").read_text()
    assert "| `region_1 < 0.01`, near | 30 |" in table
    assert "| codes of their own |" in table
    manifest = (out / "work" / "filtered" / "store" / "manifest.json").read_text()
    assert CliRunner().invoke(app, ["bench", "filtered", *options, "--queries", "2"]).exit_code == 0
    assert (out / "work" / "filtered" / "store" / "manifest.json").read_text() == manifest


@pytest.mark.parametrize("sizes", ["", "0", "many", "16,-1"])
def test_wrong_usage(sizes: str, tmp_path: Path) -> None:
    arguments = ["--dataset", str(tmp_path), "--out", str(tmp_path), "--grouped", sizes]
    done = CliRunner().invoke(app, ["bench", "filtered", *arguments])
    assert isinstance(done.exception, InvalidArgument)
    assert "--grouped is" in str(done.exception)
