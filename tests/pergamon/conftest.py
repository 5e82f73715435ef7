"""The command, run in processes of their own, and a small datastore that it built."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "What hangs over the granite harbour?"


@dataclass(frozen=True)
class Done:
    status: int
    stdout: str
    stderr: str

    def error(self) -> str:
        """What an expected failure says: one line on standard error, nothing else anywhere."""
        assert self.status == 1, self
        assert self.stdout == ""
        lines = self.stderr.splitlines()
        assert len(lines) == 1, self.stderr
        assert lines[0].startswith("error: ")
        problem, _, mend = lines[0].removeprefix("error: ").rpartition("; ")
        assert problem
        assert mend
        return lines[0]


Run = Callable[..., Done]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """`run("search", STORE, …)`: the command in a process of its own."""
    folder = tmp_path_factory.mktemp("output")
    command = [sys.executable, str(Path(__file__).with_name("forked_command.py"))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    forker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert forker.stdin is not None
    assert forker.stdout is not None

    def call(*arguments: object, out: str | None = None) -> Done:
        paths = {"out": out or str(folder / "out"), "err": str(folder / "err")}
        for path in (folder / "out", folder / "err"):
            path.write_bytes(b"")
        print(json.dumps({"arguments": list(map(str, arguments)), **paths}), file=forker.stdin, flush=True)
        status = int(forker.stdout.readline())  # type: ignore[union-attr]
        return Done(status, (folder / "out").read_text(), (folder / "err").read_text())

    yield call
    forker.stdin.close()
    forker.wait(10)
    forker.stdout.close()


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty documents and one bad line."""
    path = tmp_path_factory.mktemp("input") / "notes.jsonl"
    records: list[dict[str, object]] = [
        {"_id": f"note-{i}", "title": f"Note {i}", "text": f"note number {i} is of little use", "year": 1990 + i}
        for i in range(29)
    ]
    records.append({"_id": "harbour", "text": "A copper lantern hangs over the granite harbour."})
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + '{"_id": "bad"}\n')
    return path


@pytest.fixture(scope="session")
def built(run: Run, source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """A datastore of three segments, and what building it said."""
    store = tmp_path_factory.mktemp("built") / "notes.store"
    options = ["--encoder", "hashing", "--segment-passages", "10"]
    return store, run("build", "--input", source, "--store", store, *options)


@pytest.fixture(scope="session")
def store(built: tuple[Path, Done]) -> Path:
    """Never changed by a test."""
    return built[0]


@pytest.fixture
def copy(store: Path, tmp_path: Path) -> Path:
    """A copy of it, to damage."""
    return Path(shutil.copytree(store, tmp_path / "copy.store"))
