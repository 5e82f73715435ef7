"""The commands of docs/exchange.md run, in order."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pergamon.cli import app

GUIDE = (Path(__file__).parents[2] / "docs" / "exchange.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]


def test_commands_run_in_order(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "guide").mkdir()
    shutil.move(copy, tmp_path / "guide" / "my.store")
    monkeypatch.chdir(tmp_path / "guide")
    assert len(COMMANDS) >= 4
    for line in COMMANDS:
        program, *arguments = shlex.split(line, comments=True)
        assert program == "pergamon"
        done = CliRunner().invoke(app, arguments, env={"COLUMNS": "160"})
        assert done.exit_code == 0, (line, done.output, done.exception)


def test_one_way_at_a_time(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["import", "--store", str(tmp_path / "s"), "--passages", "p.jsonl"])
    assert done.exit_code == 2
