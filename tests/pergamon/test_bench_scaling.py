"""`pergamon bench ann-scaling`, from a dataset to the curve."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bench.ann.dataset import DatasetPlan, take_arrays
from datastore.errors import InvalidArgument, NotFound
from pergamon.cli import app


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for name, rows in (("base", 3000), ("queries", 30)):
        vectors = generator.normal(size=(rows, 16)).astype(np.float32)
        np.save(tmp_path / f"{name}.npy", vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    take_arrays(tmp_path / "base.npy", tmp_path / "queries.npy", DatasetPlan(), tmp_path / "set")
    return tmp_path / "set"


def test_two_sizes(dataset: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "results"
    options = ["--dataset", str(dataset), "--out", str(out), "--budget", "0.1", "--json"]
    command = ["bench", "ann-scaling", *options, "--sizes", "1.5k,3000", "--index", "ivf-pq4", "--cores", "0"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    results = json.loads(done.stdout)
    assert [size["vectors"] for size in results["sizes"]] == [1500, 3000]
    for size in results["sizes"]:
        points = size["engine"]["points"]
        assert points[-1]["recall"] > points[0]["recall"]
        assert size["engine"]["open_peak_bytes"] >= size["engine"]["open_bytes"] > 0
        assert size["engine"]["build"]["peak_bytes"] > 0
    assert (out / "ann-scaling.png").exists()
    (out / "ann-scaling.md").unlink()
    assert CliRunner().invoke(app, ["bench", "ann-scaling", *options, "--render-only"]).exit_code == 0
    assert "to 3,000 vectors" in (out / "ann-scaling.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--sizes", "1M"], InvalidArgument, "1000000 vectors are wanted"),
        (["--sizes", "3k"], InvalidArgument, "3000 vectors get the index flat"),
        (["--sizes", "many"], InvalidArgument, "--sizes has 'many'"),
        (["--sizes", "3k,"], InvalidArgument, "--sizes has ''"),
        (["--cores", "x"], InvalidArgument, "--cores is 'x'"),
        (["--dataset", "absent"], NotFound, "absent holds no whole dataset"),
    ],
)
def test_wrong_usage(dataset: Path, arguments: list[str], error: type[Exception], message: str, tmp_path: Path) -> None:
    command = ["bench", "ann-scaling", "--dataset", str(dataset), "--out", str(tmp_path / "out"), *arguments]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, error)
    with pytest.raises(error, match=message):
        raise done.exception
