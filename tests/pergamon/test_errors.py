"""Every expected failure is one line that says the mend, and status 1; wrong usage is status 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "What hangs over the granite harbour?"
NOWHERE = "127.0.0.1:1"


class Done(Protocol):
    status: int
    stdout: str
    stderr: str

    def error(self) -> str: ...


Run = Callable[..., Done]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "there is no file or folder"),
        ({}, "holds no file ending in .jsonl"),
        ({"empty.jsonl": b""}, "no document"),
        ({"bad.jsonl": b'nonsense\n{"text": 7}\n{"_id": "x", "text": " "}\n\xff\n'}, "all 4 records were rejected"),
        ({"half.jsonl": b'{"_id": "a", "text": "fine"}\nnonsense\n'}, "1 of 2 input records were rejected"),
        ({"wide.jsonl": '{"text": "fine"}\n'.encode("utf-16")}, "convert the input to UTF-8, as with: iconv -f UTF-16"),
        ({"latin.txt": "Café".encode("latin-1")}, "convert the input to UTF-8"),
        ({"notes.docx": b"PK"}, "holds no file ending in .jsonl"),
    ],
)
def test_input_that_cannot_be_built_from(
    run: Run, tmp_path: Path, content: dict[str, bytes] | None, reason: str
) -> None:
    folder = tmp_path / "input"
    if content is not None:
        folder.mkdir()
        for name, data in content.items():
            (folder / name).write_bytes(data)
    store = tmp_path / "store"
    assert reason in run("build", "--input", folder, "--store", store, "--encoder", "hashing").error()
    assert not (store / "manifest.json").exists()


def test_a_store_that_exists(run: Run, store: Path, source: Path, tmp_path: Path) -> None:
    assert "holds a datastore" in run("build", "--input", source, "--store", store, "--encoder", "hashing").error()
    (tmp_path / "mine.txt").write_text("not to be lost")
    assert "'mine.txt'" in run("build", "--input", source, "--store", tmp_path, "--encoder", "hashing").error()
    assert (tmp_path / "mine.txt").read_text() == "not to be lost"
    file = tmp_path / "mine.txt"
    assert str(file) in run("build", "--input", source, "--store", file, "--encoder", "hashing").error()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format_version": 99}, "is of format version 99; this program reads version 1"),
        ({"format": "parchment"}, "is of format 'parchment'"),
        ({"required_features": ["time-travel"]}, "requires the features ['time-travel']"),
        ({"generation": 2}, "its bytes do not have the checksum"),
    ],
)
@pytest.mark.parametrize("command", [("search", "note"), ("info",), ("verify",), ("serve",), ("ask", "note")])
def test_a_store_of_another_format(
    run: Run, copy: Path, command: tuple[str, ...], changes: dict[str, object], reason: str
) -> None:
    manifest = json.loads((copy / "manifest.json").read_bytes())
    if "checksum" not in reason:  # it is of what was there before; a format to come may keep its own elsewhere
        del manifest["manifest_xxh3_128"]
    (copy / "manifest.json").write_text(json.dumps({**manifest, **changes}, indent=1))
    name, *rest = command
    options = ["--llm", f"http://{NOWHERE}/v1#m"] if name == "ask" else []
    assert reason in run(name, copy, *rest, *options).error()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("note", "-k", 0), "k is 0; it must be between 1 and 10000"),
        (("note", "-k", -3), "k is -3"),
        (("note", "-k", 1_000_000), "k is 1000000"),
        (("",), "query is empty"),
        ((" \n\t",), "query is empty"),
        (("x" * 100_001,), "query has 100001 characters"),
        (("note \udcff",), "is no Unicode character"),
        (("note", "--candidate-depth", 0), "candidate_depth is 0"),
        (("note", "--nprobe", 0), "nprobe is 0"),
        (("note", "--recall", 1), "recall is 1; it must be greater than 0 and less than 1"),
        (("note", "--recall", "nan"), "recall is nan"),
        (("note", "--recall", 0.9, "--nprobe", 3), "recall is 0.9 and nprobe is 3"),
        (("note", "--recall", 0.9, "--candidate-depth", 99), "recall is 0.9 and candidate_depth is 99"),
        (("note", "--bm25-b", 2), "bm25_b is 2.0"),
        (("note", "--bm25-k1", "nan"), "bm25_k1 is nan"),
        (("note", "--dense-weight", -1), "fusion.dense_weight is -1.0"),
        (("note", "--mmr", 1.5), "mmr_lambda is 1.5"),
        (("note", "--collapse", -1), "collapse_similarity is -1.0"),
        (("note", "--collapse", 0.9, "-k", 1001), "k is 1001; with mmr_lambda or collapse_similarity"),
        (("note", "--timeout-s", -1), "timeout_s is -1.0"),
        (("note", "--timeout-s", 0), "the 0 s allowed have passed"),
        (("note", "--encoder", "nobodys"), "no encoder is called 'nobodys'"),
        (("note", "--device", "gpu"), "the device is 'gpu'; wanted auto, cpu, cuda"),
        (("note", "--device", "cuda:99"), "the device is cuda:99"),
    ],
)
def test_a_search_outside_its_bounds(run: Run, store: Path, arguments: tuple[object, ...], reason: str) -> None:
    assert reason in run("search", store, *arguments).error()


def test_tuning_that_cannot_be(run: Run, store: Path, tmp_path: Path) -> None:
    queries = tmp_path / "queries.jsonl"
    queries.write_text('{"question": "no text"}\n')
    for arguments, reason in [
        ((tmp_path / "nothing",), "no datastore at"),
        ((store, "--sample", 0), "sample is 0"),
        ((store, "--k", 10, "--k", 0), "k is 0"),
        ((store, "--seed", -1), "seed is -1"),
        ((store, "--max-passages", 0), "max_passages is 0"),
        ((store, "--queries", tmp_path / "nowhere.jsonl"), "cannot be read"),
        ((store, "--queries", queries), "is not JSON Lines with a field text"),
    ]:
        assert reason in run("tune", *arguments).error()
    assert not (tmp_path / "nothing").exists()


def test_a_target_that_is_no_store(run: Run, store: Path, tmp_path: Path, source: Path) -> None:
    for target in (tmp_path, tmp_path / "nothing", source, store / "segments"):
        assert f"no datastore at {target}" in run("search", target, "note").error()
        assert f"no datastore at {target}" in run("info", target).error()


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (f"grpc://{NOWHERE}", f"the server at {NOWHERE} cannot be reached"),
        ("grpc://", "wanted HOST:PORT"),
        ("grpc://localhost", "wanted HOST:PORT"),
        ("grpc://localhost:99999", "wanted HOST:PORT"),
        ("http://localhost:1", "no datastore at http:"),
    ],
)
def test_a_server_that_cannot_be_reached(run: Run, target: str, reason: str) -> None:
    assert reason in run("search", target, "note").error()


def test_the_device_of_a_server_is_its_own(run: Run) -> None:
    said = run("search", f"grpc://{NOWHERE}", "note", "--device", "cpu").error()
    assert f"the device cpu is given for grpc://{NOWHERE}" in said


@pytest.mark.parametrize(
    ("llm", "reason"),
    [
        (f"http://{NOWHERE}/v1", f"no language model answers at http://{NOWHERE}/v1"),
        (f"http://{NOWHERE}/v1#some-model", f"no language model answers at http://{NOWHERE}/v1"),
        ("nobodys", "no language model is called 'nobodys'"),
    ],
)
def test_a_language_model_that_cannot_be_had(run: Run, store: Path, llm: str, reason: str) -> None:
    assert reason in run("ask", store, QUESTION, "--llm", llm).error()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("", "-k", 1), "question is empty"),
        ((QUESTION, "-k", 0), "k is 0"),
        ((QUESTION, "--min-relevance", 7), "min_relevance is 7.0"),
        ((QUESTION, "--max-answer-tokens", 0), "max_answer_tokens is 0"),
    ],
)
def test_a_question_outside_its_bounds(run: Run, store: Path, arguments: tuple[object, ...], reason: str) -> None:
    assert reason in run("ask", store, *arguments, "--llm", f"http://{NOWHERE}/v1#m").error()


def test_every_truncated_file_is_named(run: Run, copy: Path) -> None:
    segment = min((copy / "segments").iterdir())
    files = [path for path in sorted(segment.rglob("*")) if path.is_file()]
    assert {"vectors.f16", "columns.arrow", "bm25", "passages"} <= {
        path.relative_to(segment).parts[0] for path in files
    }
    for path in files:
        whole = path.read_bytes()
        for damaged in {whole[: len(whole) // 2], whole + b"\0"} - {whole}:
            path.write_bytes(damaged)
            assert f"{path} has {len(damaged)} bytes" in run("search", copy, "note").error()
        path.unlink()
        assert f"{path} is missing" in run("search", copy, "note").error()
        path.write_bytes(whole)
    assert run("search", copy, "note").status == 0
    manifest = copy / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-20])
    assert f"{manifest} is damaged" in run("search", copy, "note").error()


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("ivf-pq", ("template.faiss", "ann.faiss")),
        ("ivf-pq4", ("template.npz", "ann.lists")),
        ("ivf-rabitq", ("template.npz", "ann.lists")),
    ],
)
def test_a_truncated_index_and_its_template(
    run: Run, documents: Path, tmp_path: Path, kind: str, files: tuple[str, str]
) -> None:
    template, codes = files
    (tmp_path / "build.toml").write_text("[index]\nnlist = 4\npq_m = 4\n")
    store, options = tmp_path / "ivf.store", ["--index", kind, "--config", tmp_path / "build.toml"]
    done = run("build", "--input", documents, "--store", store, "--encoder", "hashing", *options)
    assert done.status == 0, done.stderr
    for path in (store / template, *store.glob(f"segments/*/{codes}")):
        whole = path.read_bytes()
        path.write_bytes(whole[:-100])
        assert f"{path} has {len(whole) - 100} bytes" in run("search", store, "note").error()
        path.write_bytes(whole)
    assert run("search", store, "note").status == 0


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many as an index needs to be trained."""
    path = tmp_path_factory.mktemp("many") / "many.jsonl"
    path.write_text("".join(json.dumps({"_id": f"n{i}", "text": f"note {i} of {i * i}"}) + "\n" for i in range(300)))
    return path


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--encoder", "nobodys"), "no encoder is called 'nobodys'"),
        (("--analyzer", "klingon"), "klingon"),
        (("--chunk-words", -1), "chunk.words is -1"),
        (("--bm25-b", 7), "bm25.b is 7.0"),
        (("--segment-passages", 0), "segment.passages is 0"),
        (("--max-rejected-share", 2), "input.max_rejected_share is 2.0"),
        (("--index", "ivf-pq"), "cannot train an ivf-pq index"),
        (("--index-memory", "much"), "index.memory is 'much'; it must be a size"),
        (("--index-memory", "0"), "index.memory is '0'"),
        (("--device", "cuda:99"), "the device is cuda:99"),
        (("--chunker", "tokens", "--chunk-words", 100), "chunk.words is 100, and the chunker is tokens"),
        (("--task", "0/2", "--workers", 2), "--workers was given with --task"),
        (("--report", "/dev/null/report"), "the report cannot be written to /dev/null/report"),
    ],
)
def test_settings_that_cannot_be(
    run: Run, source: Path, tmp_path: Path, options: tuple[object, ...], reason: str
) -> None:
    encoder = () if "--encoder" in options else ("--encoder", "hashing")
    store = tmp_path / "store"
    assert reason in run("build", "--input", source, "--store", store, *encoder, *options).error()
    assert not (store / "manifest.json").exists()


@pytest.mark.parametrize("shard", ["2/2", "-1/2", "0/0", "1", "a/b", "0/2/3", "", "0/99999999"])
def test_a_shard_that_cannot_be(run: Run, store: Path, shard: str) -> None:
    assert f"--shard is {shard!r}; wanted I/N" in run("serve", store, f"--shard={shard}").error()


@pytest.mark.parametrize(
    ("shards", "reason"),
    [(",", "wanted different HOST:PORT"), (f"{NOWHERE},{NOWHERE}", "wanted different"), ("here", "wanted HOST:PORT")],
)
def test_shards_that_cannot_be_routed_to(run: Run, shards: str, reason: str) -> None:
    assert reason in run("route", "--shards", shards).error()


def test_evaluation_without_its_parts(run: Run, store: Path, tmp_path: Path) -> None:
    arguments = ("eval", "retrieval", "--store", store)
    assert "no judgments" in run(*arguments, "--beir", tmp_path / "nothing").error()
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("q1\tharbour\t1\n")
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "harbour"}\n')
    beir = ("--beir", tmp_path)
    assert "there are test" in run(*arguments, *beir, "--split", "dev").error()
    assert "k is 0" in run(*arguments, *beir, "-k", 0).error()
    assert "cannot be written" in run(*arguments, *beir, "--run", tmp_path / "nowhere" / "run").error()
    unreachable = ("eval", "retrieval", "--store", f"grpc://{NOWHERE}", *beir)
    assert "cannot be reached" in run(*unreachable).error()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("search", "STORE", "note", "--mode", "sparse"), "'hybrid', 'dense', 'bm25'"),
        (("search", "STORE", "note", "--fusion", "sum"), "'rrf', 'convex'"),
        (("search", "STORE", "note", "-k", "ten"), "'-k'"),
        (("search", "STORE", "note", "--limit", "3"), "--limit"),
        (("search", "STORE"), "query"),
        (("build", "--store", "STORE"), "--input"),
        (("build", "--input", "STORE", "--store", "new", "--index", "tree"), "'auto', 'flat', 'ivf-pq'"),
        (("eval", "retrieval", "--store", "STORE"), "--beir"),
        (("find", "STORE", "note"), "No such command"),
    ],
)
def test_wrong_usage(run: Run, store: Path, arguments: tuple[str, ...], reason: str) -> None:
    done = run(*(str(store) if word == "STORE" else word for word in arguments))
    assert (done.status, done.stdout) == (2, "")
    assert reason in done.stderr
    assert "Usage: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_device(run: Run, store: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    for arguments in (("info", store), ("info", store, "--json"), ("search", store, "note", "--mode", "bm25")):
        done = run(*arguments, out="/dev/full")
        assert done.error() == "error: no space left: No space left on device; free some space and run it again"


@pytest.fixture
def everyones() -> Iterator[Path]:
    """A folder that every user of the machine may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_missing_permissions(everyones: Path, source: Path) -> None:
    unreadable = everyones / "unreadable.store"
    unreadable.mkdir()
    (unreadable / "manifest.json").write_text("{}")
    (unreadable / "manifest.json").chmod(0)
    (everyones / "open").mkdir()
    (everyones / "open").chmod(0o777)
    sealed = everyones / "sealed"
    sealed.mkdir(mode=0o500)
    notes = everyones / "notes.jsonl"
    notes.write_bytes(source.read_bytes())
    notes.chmod(0o644)
    secret = everyones / "secret.jsonl"
    secret.write_bytes(source.read_bytes())
    secret.chmod(0)
    built = ("--encoder", "hashing")
    for arguments, path in [
        (("info", str(unreadable)), unreadable),
        (("search", str(unreadable), "note"), unreadable),
        (("verify", str(unreadable)), unreadable),
        (("build", "--input", str(notes), "--store", str(sealed / "new"), *built), sealed),
        (("build", "--input", str(secret), "--store", str(everyones / "open" / "new"), *built), secret),
    ]:
        done = _as_ordinary_user(arguments)
        assert len(done.stderr.splitlines()) == 1, done.stderr
        line = done.stderr
        assert line.startswith("error: ")
        assert "Permission denied" in line
        assert str(path) in line
        assert (done.returncode, done.stdout) == (1, "")


def _as_ordinary_user(arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """The command without root's power to read and write everything."""
    code = (
        "import email.parser, os, sys\n"
        "import pergamon.cli, datastore.build, datastore.encoders.hashing, datastore.bm25.analysis\n"
        "if os.geteuid() == 0: os.setegid(65534); os.seteuid(65534)\n"
        "pergamon.cli.main()"
    )
    command = [sys.executable, "-c", code, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
