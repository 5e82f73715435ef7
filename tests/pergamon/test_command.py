"""What the command prints, where, and with which status."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

import pytest
import typer.main
from typer.testing import CliRunner

from datastore.info import StoreInfo
from pergamon.cli import app

ROOT = Path(__file__).resolve().parents[2]
HIT_KEYS = [
    "rank",
    "document_id",
    "chunk_index",
    "score",
    "dense_score",
    "bm25_score",
    "title",
    "text",
    "source",
    "start",
    "end",
    "attributes",
    "duplicates",
]
QUESTION = "What hangs over the granite harbour?"


class Done(Protocol):
    status: int
    stdout: str
    stderr: str

    def error(self) -> str: ...


Run = Callable[..., Done]


def test_build_reports_on_standard_error_alone(built: tuple[Path, Done]) -> None:
    store, done = built
    assert (done.status, done.stdout) == (0, "")
    assert f"built {store}" in done.stderr
    assert "30 in 3 segments" in done.stderr
    assert "\x1b" not in done.stderr


def test_build_json(run: Run, source: Path, tmp_path: Path) -> None:
    done = run("build", "--input", source, "--store", tmp_path / "s", "--encoder", "hashing", "--json")
    assert (done.status, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert (report["documents"], report["passages"], report["rejected"]) == (30, 30, 1)
    assert Path(report["rejects_file"]).is_file()


@pytest.mark.parametrize(("mode", "kind"), [("hybrid", "rrf"), ("dense", "dot"), ("bm25", "bm25")])
def test_search_json(run: Run, store: Path, mode: str, kind: str) -> None:
    done = run("search", store, "copper lantern", "-k", 3, "--mode", mode, "--json")
    assert (done.status, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert list(answer) == ["query", "mode", "score_kind", "generation", "hits", "coverage", "timings_ms"]
    assert (answer["query"], answer["mode"], answer["score_kind"]) == ("copper lantern", mode, kind)
    assert [hit["rank"] for hit in answer["hits"]] == list(range(1, len(answer["hits"]) + 1))
    for hit in answer["hits"]:
        assert list(hit) == HIT_KEYS
        assert isinstance(hit["score"], float)
    assert answer["hits"][0]["document_id"] == "harbour"
    assert len(answer["hits"]) == (1 if mode == "bm25" else 3)
    assert answer["coverage"] == {
        "shards_total": 1,
        "shards_ok": 1,
        "passages_total": 30,
        "passages_searched": 30,
        "failures": {},
    }
    stages = {"hybrid": {"statistics", "encode"}, "dense": {"encode"}, "bm25": {"statistics"}}[mode]
    assert set(answer["timings_ms"]) == stages | {"search", "fuse", "fetch", "total"}


def test_search_without_near_duplicates(run: Run, store: Path) -> None:
    query = ("search", store, "note number", "-k", 3, "--mode", "dense")
    done = run(*query, "--collapse", 0.7, "--mmr", 0.9, "--json")
    assert (done.status, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert sum(1 + hit["duplicates"] for hit in answer["hits"]) == 30
    assert answer["hits"][0]["duplicates"] > 0
    assert "diversify" in answer["timings_ms"]
    assert f", and {answer['hits'][0]['duplicates']} like it" in run(*query, "--collapse", 0.7).stdout


def test_search_for_people(run: Run, store: Path) -> None:
    done = run("search", store, "copper lantern", "-k", 2)
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.startswith("1. harbour #0  rrf 0.0328, dense 0.")
    assert "A copper lantern hangs over the granite harbour." in done.stdout
    assert "30 of 30 passages" in done.stdout
    assert "nothing found" in run("search", store, "unheard-of", "--mode", "bm25").stdout


def test_info_json(run: Run, store: Path) -> None:
    done = run("info", store, "--json")
    assert (done.status, done.stderr) == (0, "")
    info = json.loads(done.stdout)
    assert list(info) == [field.name for field in fields(StoreInfo)]
    assert (info["documents"], info["passages"], info["segments"], info["rejected"]) == (30, 30, 3, 1)
    assert info["encoder"]["name"] == "hashing"
    assert info["bytes_total"] == sum(info["bytes_by_part"].values())
    assert info["gpu_search"] == "float32 vectors, 1.50 GiB on one device"
    assert info["gpu_bytes"] > 1.5 * 2**30
    shown = run("info", store)
    assert (shown.status, shown.stderr) == (0, "")
    assert "hashing, 256 dimensions" in shown.stdout


def test_a_budget_of_memory(run: Run, tmp_path: Path) -> None:
    """The same input with memory for its vectors and without; in the settings, a size is a number or a text."""
    source = tmp_path / "many.jsonl"
    source.write_text("".join(json.dumps({"_id": f"n{i}", "text": f"note {i} of {i * i}"}) + "\n" for i in range(1200)))
    (tmp_path / "build.toml").write_text('[index]\nmemory = "1 MB"\n')
    kinds = {}
    settings = {"much": ("--config", tmp_path / "build.toml"), "little": ("--index-memory", "20K")}
    for name, options in settings.items():
        build = ("build", "--input", source, "--store", tmp_path / name, "--encoder", "hashing", "--json")
        told = json.loads(run(*build, *options).stdout)
        shown = json.loads(run("info", tmp_path / name, "--json").stdout)
        assert shown["index_memory_bytes"] == told["index_memory_bytes"]
        assert shown["index_reason"] == told["index_reason"]
        kinds[name] = told
        assert run("search", tmp_path / name, "note 7", "-k", 3).status == 0
    much, little = kinds["much"], kinds["little"]
    assert much["index"] == "flat"
    assert much["index_reason"].endswith("in memory, within index.memory, 976.6 KiB")
    assert much["index_memory_bytes"] > little["index_memory_bytes"]
    assert little["index"].startswith("ivf-pq4")
    assert "more than index.memory, 20.0 KiB" in little["index_reason"]


def test_info_of_a_path_that_looks_like_markup(run: Run, store: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a[b]c"
    odd.symlink_to(store)
    assert "/a[b]c,generation" in "".join(run("info", odd).stdout.split())  # of whatever length, so broken anywhere


@pytest.fixture(scope="module")
def ivf_store(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 300 notes, tuned by its build."""
    folder = tmp_path_factory.mktemp("ivf")
    records = [{"_id": f"n{i}", "text": f"note {i % 17} of {i % 23} and {i}"} for i in range(300)]
    (folder / "many.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "build.toml").write_text("[index]\nnlist = 8\ntune_queries = 50\n")
    options = ["--encoder", "hashing", "--index", "ivf-pq4", "--config", folder / "build.toml", "--json"]
    done = run("build", "--input", folder / "many.jsonl", "--store", folder / "store", *options)
    assert (done.status, done.stderr) == (0, "")
    assert json.loads(done.stdout)["operating_curve"]["queries"] == 50
    return folder / "store"


def test_tune(run: Run, ivf_store: Path) -> None:
    queries = ivf_store.parent / "queries.jsonl"
    queries.write_text("".join(json.dumps({"text": f"note {i % 17} of {i % 11}"}) + "\n" for i in range(90)))
    before = json.loads(run("info", ivf_store, "--json").stdout)["generation"]
    done = run("tune", ivf_store, "--queries", queries, "--sample", 60, "--k", 5, "--k", 50, "--seed", 2, "--json")
    assert (done.status, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert list(report) == ["store", "generation", "index", "operating_curve", "seconds"]
    curve = report["operating_curve"]
    assert report["generation"] == before + 1
    assert (curve["source"], curve["queries"], curve["seed"], curve["passages"]) == ("queries", 60, 2, 300)
    assert [part["k"] for part in curve["curves"]] == [5, 50]
    assert json.loads(run("info", ivf_store, "--json").stdout)["operating_curve"] == curve
    last = curve["curves"][0]["points"][-1]
    shown = run("info", ivf_store).stdout
    assert f"{last['recall']:.4f} ± {last['recall_error']:.4f}" in shown
    assert "by 60 real queries (seed 2) over 300 passages, generation" in shown
    people = run("tune", ivf_store, "--sample", 40)
    assert people.status == 0
    assert "candidate depth" in people.stdout
    assert "by 40 stored vectors" in people.stdout
    assert f"now generation {before + 2}" in people.stderr


def test_tuning_a_flat_index(run: Run, store: Path) -> None:
    done = run("tune", store)
    assert (done.status, done.stdout) == (0, "")
    assert "nothing to tune" in done.stderr
    report = json.loads(run("tune", store, "--json").stdout)
    assert (report["generation"], report["operating_curve"]) == (1, None)


def test_search_for_a_recall(run: Run, ivf_store: Path, store: Path, beir: Path) -> None:
    for target in (ivf_store, store):
        done = run("search", target, "note 3 of 4", "--mode", "dense", "--recall", 0.9, "--json")
        assert (done.status, done.stderr) == (0, "")
        assert len(json.loads(done.stdout)["hits"]) == 10
    done = run("eval", "retrieval", "--beir", beir, "--store", store, "--mode", "dense", "--recall", 0.99, "--json")
    assert (done.status, done.stderr) == (0, "")
    question = ("ask", ivf_store, "Which emperor crossed seven rivers?", "--llm", "http://127.0.0.1:1/v1#m")
    assert "recall is 1; it must be" in run(*question, "--recall", 1).error()


def test_verify(run: Run, store: Path) -> None:
    done = run("verify", store)
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.startswith("sound: ")
    assert json.loads(run("verify", store, "--json").stdout)["problems"] == []


def test_verify_names_every_damaged_file(run: Run, copy: Path) -> None:
    damaged = sorted((copy / "segments").glob("*/vectors.f16"))
    for path in damaged:
        data = bytearray(path.read_bytes())
        data[7] ^= 1
        path.write_bytes(data)
    (copy / "segments" / "left-over").write_text("by a writer that died")
    done = run("verify", copy)
    assert (done.status, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["note", "damaged", "damaged", "error"]
    assert all(any(str(path) in line for line in lines) for path in damaged)
    report = json.loads(run("verify", copy, "--json").stdout)
    assert len(report["problems"]) == 3
    assert report["orphans"] == ["segments/left-over"]


def test_ask_says_that_nothing_was_found(run: Run, store: Path) -> None:
    """Then no model is asked, so that the address does not matter."""
    question = "Which emperor crossed seven rivers?"
    done = run("ask", store, question, "--mode", "bm25", "--llm", "http://127.0.0.1:1/v1#m", "--json")
    assert done.status == 0
    answer = json.loads(done.stdout)
    assert (answer["found"], answer["citations"]) == (False, [])


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """Two judged queries for the notes."""
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tharbour\t1\nq2\tnote-3\t1\n")
    queries = '{"_id": "q1", "text": "granite harbour"}\n{"_id": "q2", "text": "unheard-of"}\n'
    (tmp_path / "queries.jsonl").write_text(queries)
    return tmp_path


def test_eval_retrieval(run: Run, store: Path, beir: Path) -> None:
    arguments = ["eval", "retrieval", "--beir", beir, "--store", store, "--mode", "bm25"]
    done = run(*arguments, "--run", beir / "run", "--json")
    assert (done.status, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"nDCG@10": 0.5, "R@100": 0.5, "AP": 0.5, "P@30": pytest.approx(1 / 60)}
    (line,) = (beir / "run").read_text().splitlines()
    assert line.split()[:4] == ["q1", "Q0", "harbour", "1"]
    assert "2 queries" in run(*arguments).stdout


def test_the_installed_command_is_the_same(store: Path) -> None:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("pergamon")), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert call("--version").stdout.startswith("pergamon ")
    assert json.loads(call("info", str(store), "--json").stdout)["passages"] == 30
    failed = call("info", str(store / "nothing"))
    assert (failed.returncode, failed.stdout, failed.stderr.count("\n")) == (1, "", 1)
    assert failed.stderr.startswith("error: no datastore at ")


def test_a_reader_that_goes_away(store: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "pergamon.cli", "info", str(store)]
    done = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


Leaf = tuple[tuple[str, ...], Any]


def _commands() -> Iterator[Leaf]:
    """Every command that does something, with the words that call it."""
    waiting: list[Leaf] = [((), typer.main.get_command(app))]
    while waiting:
        words, command = waiting.pop()
        subcommands = getattr(command, "commands", {})
        waiting += [((*words, name), sub) for name, sub in subcommands.items()]
        if not subcommands:
            yield words, command


COMMANDS = sorted(_commands(), key=lambda leaf: leaf[0])


def test_the_commands_that_users_rely_on_are_there() -> None:
    names = {" ".join(words) for words, _ in COMMANDS}
    assert names >= {"build", "info", "verify", "search", "serve", "route", "ask", "eval retrieval"}


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=[" ".join(words) for words, _ in COMMANDS])
def test_every_command_is_documented(words: tuple[str, ...], command: Any) -> None:
    options = {name for parameter in command.params for name in parameter.opts}
    assert command.help
    for parameter in command.params:
        assert parameter.help, f"{parameter.name} has no help"
    shown = CliRunner().invoke(app, [*words, "--help"], terminal_width=500)
    assert shown.exit_code == 0
    examples = [text for text in command.epilog.split("`") if text.startswith("pergamon ")]
    assert examples
    for example in examples:
        first, *rest = shlex.split(example, comments=True)
        used = [word for word in rest if word.startswith("-")]
        if first == "pergamon" and tuple(rest[: len(words)]) == words:
            assert set(used) <= options, example
    assert any(shlex.split(example)[1 : 1 + len(words)] == list(words) for example in examples)
