"""`pergamon bench ann`, from vectors to tables and plots."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from datastore.errors import InvalidArgument
from pergamon.cli import app


@pytest.fixture
def arrays(tmp_path: Path) -> list[str]:
    generator = np.random.default_rng(0)
    for name, rows in (("base", 1500), ("queries", 40)):
        vectors = generator.normal(size=(rows, 16)).astype(np.float32)
        np.save(tmp_path / f"{name}.npy", vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return ["--vectors", str(tmp_path / "base.npy"), "--queries", str(tmp_path / "queries.npy")]


def test_two_engines_and_one_that_is_missing(arrays: list[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "results"
    options = ["--out", str(out), "--label", "small", "--cores", "0", "--budget", "0.1", "--json"]
    done = CliRunner().invoke(
        app, ["bench", "ann", *arrays, *options, "--engines", "compactds,scann", "--limit", "1400"]
    )
    assert done.exit_code == 0, done.output
    results = json.loads(done.stdout)
    assert results["dataset"]["vectors_count"] == 1400
    assert [result["engine"] for result in results["engines"]] == ["compactds"]
    assert "scann" in results["failed"]
    assert max(point["recall"] for point in results["engines"][0]["points"]) > 0.95
    assert json.loads((out / "ann-small.json").read_text()) == results
    assert (out / "ann-small-warm.png").exists()
    (out / "ann-small.md").unlink()
    assert CliRunner().invoke(app, ["bench", "ann", *options, "--render-only"]).exit_code == 0
    assert "| compactds |" in (out / "ann-small.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "in no way"),
        (["--vectors", "a.npy"], "in no way, or in several"),
        (["--vectors", "a.npy", "--queries", "b.npy", "--input", "c"], "or in several"),
        (["--dataset", "a", "--engines", "scann,annoy"], "annoy; there are pergamon"),
        (["--dataset", "a", "--engines", ","], "no name"),
        (["--dataset", "a", "--cores", "all"], "--cores is 'all'"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "ann", "--out", str(tmp_path), *arguments])
    assert isinstance(done.exception, InvalidArgument)
    assert message in str(done.exception)
