"""The comparison of devices, from the command to the page; both are the CPU here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from bench.ann.dataset import Dataset
from bench.ann.gpu import main
from datastore.ann.kinds.gpu import find_gpus
from datastore.devices import AUTO

APP = typer.Typer()
APP.command()(main)


def test_both_sides_are_measured_and_compared(dataset: Dataset, tmp_path: Path) -> None:
    options = [
        "--dataset",
        str(dataset.folder),
        "--work",
        str(tmp_path / "work"),
        "--out",
        str(tmp_path),
        "--label",
        "trial",
    ]
    done = CliRunner().invoke(APP, [*options, "--device", "cpu"], catch_exceptions=False)
    assert done.exit_code == 0
    record = json.loads((tmp_path / "gpu-trial.json").read_text())
    assert [kind["kind"] for kind in record["kinds"]] == ["flat", "ivf-pq", "ivf-pq4"]
    for kind in record["kinds"]:
        assert kind["agreement"] == {
            "same_bytes": True,
            "same_entries": 1.0,
            "same_candidates": 1.0,
            "score_difference": 0.0,
        }
        assert len(kind["sides"]) == 2
        searched = len(kind["points"]) // 3
        for first, second, third in zip(
            *(kind["points"][i * searched : (i + 1) * searched] for i in range(3)), strict=True
        ):
            assert first["recall"] == second["recall"] == third["recall"]
        assert kind["points"][-1]["recall"] > (0.999 if kind["kind"] == "flat" else 0.6)
        assert kind["taken_bytes"] is None
    page = (tmp_path / "gpu-trial.md").read_text()
    assert "With the CPU's template both write the same bytes." in page
    assert page.count("| cpu | cpu |") == sum(len(kind["points"]) for kind in record["kinds"])


def test_without_a_gpu_it_says_so(dataset: Dataset, tmp_path: Path) -> None:
    if find_gpus(AUTO):
        pytest.skip("there is a CUDA device")
    options = ["--dataset", str(dataset.folder), "--work", str(tmp_path / "work"), "--out", str(tmp_path)]
    done = CliRunner().invoke(APP, [*options, "--device", "cuda"])
    assert done.exit_code == 1
    assert "error: the device is cuda, which FAISS cannot use" in done.output
    assert not list(tmp_path.iterdir())
