"""A server that is told nothing, and moves to new generations all the same; and the guide to it."""

from __future__ import annotations

import json
import random
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import grpc
import typer.main
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from datastore.store.manifest import read_manifest
from datastore.tune import TuneOptions, tune
from pergamon.cli import app
from retriever.api import SearchRequest
from retriever.client import open_target

GUIDE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
Eventually = Callable[[Callable[[], bool]], None]


class Servers(Protocol):
    processes: dict[str, subprocess.Popen[str]]

    def start(self, *commands: Sequence[str | Path], listen: str = ...) -> list[str]: ...

    def errors(self, process: subprocess.Popen[str]) -> str: ...


def test_a_server_serves_what_tune_publishes_and_says_what_it_cannot(
    ivf_store: Path, tmp_path: Path, servers: Servers, eventually: Eventually
) -> None:
    store = Path(shutil.copytree(ivf_store, tmp_path / "store"))
    watching, blind = servers.start(
        ["serve", store, "--warm-up-s", "0", "--refresh-seconds", "0.1"],
        ["serve", store, "--warm-up-s", "0", "--refresh-seconds", "0"],
    )
    with grpc.insecure_channel(watching) as channel:
        retriever, other = open_target(f"grpc://{watching}"), open_target(f"grpc://{blind}")
        first = retriever.info().generation
        tuned = tune(store, TuneOptions(queries=50, ks=(10,), seed=1)).generation
        assert tuned == first + 1
        eventually(lambda: retriever.info().generation == tuned)
        assert other.info().generation == first

        (store / "manifest.json").write_bytes((store / "manifest.json").read_bytes()[:-30])
        eventually(lambda: "manifest.json" in retriever.info().refresh_error)
        assert retriever.search(SearchRequest("sky")).generation == tuned
        request = health_pb2.HealthCheckRequest()
        health = health_pb2_grpc.HealthStub(channel).Check(request, timeout=10).status
        assert health == health_pb2.HealthCheckResponse.SERVING
        (line,) = servers.errors(servers.processes[watching]).splitlines()
        assert f"stays at generation {tuned}: " in line
        retriever.close()
        other.close()


def test_the_guide(tmp_path: Path) -> None:
    chance, words = random.Random(4), [f"word{i}" for i in range(50)]
    texts = [" ".join(chance.choices(words, k=9)) for _ in range(60)]
    source, more = tmp_path / "notes.jsonl", tmp_path / "more.jsonl"
    source.write_text("".join(json.dumps({"_id": f"n{i}", "text": text}) + "\n" for i, text in enumerate(texts)))
    more.write_text(json.dumps({"_id": "new", "text": "a heron by the weir"}) + "\n")
    (example,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    store = tmp_path / "store"
    exec(example, {"source": str(source), "more": str(more), "store": store})
    assert read_manifest(store).generation == 2


def test_the_guides_commands_have_the_options_shown() -> None:
    root = typer.main.get_command(app)
    shown = [line for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]
    assert len(shown) > 3
    for line in shown:
        name, *words = shlex.split(line.rstrip("&"), comments=True)
        if name == "pergamon":
            command = root
            while subcommands := getattr(command, "commands", {}):
                command = subcommands[words.pop(0)]
            options = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("-")} <= options, line
