"""`pergamon plan` as a program sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest


class Done(Protocol):
    status: int
    stdout: str
    stderr: str

    def error(self) -> str: ...


Run = Callable[..., Done]


def test_json_is_one_object_in_bytes(run: Run) -> None:
    done = run("plan", "--tokens", "1.4T", "--dim", "768", "--json")
    assert (done.status, done.stderr) == (0, "")
    tree: dict[str, Any] = json.loads(done.stdout)
    assert list(tree) == [
        "request",
        "size",
        "encoder_parameters",
        "shapes",
        "warnings",
        "assumptions",
        "measured_on",
    ]
    assert list(tree["shapes"]) == ["cpu", "gpu"]
    for shape in tree["shapes"].values():
        assert shape["disk_bytes"] == pytest.approx(sum(shape["disk"].values()))
        assert shape["shards"] >= 1
        assert set(shape["build_hours"]) == {"encoding", "text", "training", "codes"}
        assert {"warm_ms", "cold_ms", "queries_per_second"} <= set(shape["search"])
        assert set(shape["cost"]) == {"build", "serving_month"}
        assert set(shape["dominant"]) == {"index memory", "disk", "build", "search"}
    assert all({"name", "value", "unit", "basis", "source"} == set(one) for one in tree["assumptions"])


def test_people_get_a_table_with_notes_and_constants(run: Run) -> None:
    done = run("plan", "--passages", "10M", "--cpu-price", "7.5")
    assert (done.status, done.stderr) == (0, "")
    for wanted in (
        "10M passages of 340 tokens",
        "ivf-pq4",
        "RAM, serving process",
        "search, vectors in memory",
        "what dominates",
        "$7.5/h",
        "note, gpu:",
    ):
        assert wanted in done.stdout, wanted
    constants = [line.split()[:3] for line in done.stdout.splitlines()]
    assert ["given", "cpu_price", "7.5"] in constants
    assert ["assumed", "gpu_price", "4"] in constants
    assert "\x1b" not in done.stdout


def test_help_has_examples(run: Run) -> None:
    shown = run("plan", "--help").stdout
    assert "pergamon plan --tokens 1.4T --dim 768" in shown
    assert "--like" in shown


def test_options_reach_the_plan(run: Run) -> None:
    options = ["--passages", "1B", "--dim", "768", "--index", "ivf-pq", "--pq-m", "64", "--nlist", "65536"]
    options += ["--ram", "256GiB", "--disk", "20TB", "--vcpus", "32", "--gpus", "8", "--gpu-memory", "40GiB"]
    options += ["--segment-passages", "50M", "--encoder-params", "85M", "--build-machines", "4", "--qps", "100"]
    tree = json.loads(run("plan", *options, "--json").stdout)
    cpu, gpu = tree["shapes"]["cpu"], tree["shapes"]["gpu"]
    assert (cpu["index"]["pq_m"], cpu["index"]["nlist"]) == (64, 65536)
    assert (cpu["machine"]["ram_bytes"], cpu["machine"]["vcpus"]) == (256 << 30, 32)
    assert (gpu["machine"]["gpus"], gpu["machine"]["gpu_bytes"]) == (8, 40 << 30)
    assert cpu["machine"]["disk_bytes"] == 20 * 10**12
    assert (cpu["segments"]["limit"], cpu["build_machines"]) == (50 * 10**6, 4)
    assert tree["encoder_parameters"] == 85e6


def test_a_memory_budget_chooses_the_index(run: Run) -> None:
    free = json.loads(run("plan", "--passages", "100M", "--json").stdout)
    tight = json.loads(run("plan", "--passages", "100M", "--index-memory", "12GiB", "--json").stdout)
    assert free["shapes"]["cpu"]["index"]["copies"] == 2
    assert tight["shapes"]["cpu"]["index_memory_bytes_all_shards"] < 12.5 * 2**30
    assert "index.memory" in tight["shapes"]["cpu"]["index"]["reason"]


def test_a_sample_gives_dimension_and_bytes(run: Run, tmp_path: Path) -> None:
    lines = (json.dumps({"_id": str(i), "text": f"passage {i} of a sample, of few words"}) + "\n" for i in range(1100))
    (tmp_path / "sample.jsonl").write_text("".join(lines))
    run("build", "--input", tmp_path / "sample.jsonl", "--store", tmp_path / "store", "--encoder", "hashing")
    tree = json.loads(run("plan", "--tokens", "1B", "--like", tmp_path / "store", "--json").stdout)
    assert tree["request"]["dimension"] == 256
    assert tree["size"]["passages"] == pytest.approx(1e9 / 8, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "neither of tokens and passages were given"),
        (["--tokens", "1T", "--passages", "1B"], "both of tokens and passages were given"),
        (["--tokens", "1.4X"], "tokens is '1.4X'; it must be a number"),
        (["--tokens", "0"], "tokens is '0'; it must be between 1"),
        (["--tokens", "1T", "--ram", "lots"], "ram is 'lots'; it must be a size"),
        (["--tokens", "1T", "--dim", "0"], "dim is 0; it must be between 1 and 65536"),
        (["--tokens", "1T", "--recall", "2"], "recall is 2"),
        (["--tokens", "1T", "--recall", "0.99999"], "recall is 0.99999"),
        (["--tokens", "1T", "--cpu-price", "-1"], "--cpu-price is -1"),
        (["--tokens", "1T", "--dim", "768", "--index", "ivf-pq", "--pq-m", "100"], "it must divide"),
        (["--passages", "100", "--index", "ivf-pq"], "100 passages cannot train"),
        (["--tokens", "1T", "--ram", "1GiB"], "no number of cpu machines"),
        (["--tokens", "1T", "--like", "/nowhere"], "/nowhere"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(run: Run, arguments: list[str], said: str) -> None:
    assert said in run("plan", *arguments).error()


def test_an_unknown_kind_is_wrong_usage(run: Run) -> None:
    assert run("plan", "--tokens", "1T", "--index", "hnsw").status == 2
