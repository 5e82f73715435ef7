"""The commands of docs/planning.md run, and its figures are what they print."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from datastore.plan.results import ShapePlan
from pergamon.cli import app

GUIDE = (Path(__file__).parents[3] / "docs" / "planning.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]
FIELDS = re.findall(r"^\| `([^`]+)` \| (\d+) \|$", GUIDE, re.MULTILINE)
PUBLISHED = re.findall(r"^\| (\d+) \| ([\d.]+) \| (\d+) \| ([\d.]+)% \|$", GUIDE, re.MULTILINE)


def run(command: str) -> str:
    program, *arguments = shlex.split(command)
    assert program == "pergamon"
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "160"})
    assert done.exit_code == 0, (command, done.output, done.exception)
    return done.stdout


def test_commands_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = (json.dumps({"_id": str(i), "text": f"passage {i} of a sample, of few words"}) + "\n" for i in range(1200))
    Path("sample.jsonl").write_text("".join(lines))
    assert len(COMMANDS) >= 6
    for command in COMMANDS:
        shown = run(command)
        if command.startswith("pergamon plan"):
            for wanted in ("RAM, index, all shards", "disk, all shards", "cost of serving", "tokens_per_word"):
                assert wanted in shown, command


def test_fields_have_the_values_shown() -> None:
    tree: Any = json.loads(run(COMMANDS[0] + " --json"))
    assert len(FIELDS) == 3
    for path, value in FIELDS:
        found = tree
        for name in path.split("."):
            found = found[name]
        assert found == pytest.approx(int(value), rel=1e-6), path


def test_the_published_index(on_cpu: Callable[..., ShapePlan]) -> None:
    assert len(PUBLISHED) == 2
    for pq_m, gib, published, difference in PUBLISHED:
        index = {"kind": "ivf-pq", "nlist": 65536, "pq_m": int(pq_m)}
        planned = on_cpu(passages=1_900_000_000, dimension=768, index=index).index_memory_bytes_all_shards / 2**30
        assert planned == pytest.approx(float(gib), abs=0.1)
        assert 100 * (planned / int(published) - 1) == pytest.approx(float(difference), abs=0.1)
