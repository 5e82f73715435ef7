"""The commands of docs/care.md run, in order."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pergamon.cli import app

GUIDE = (Path(__file__).parents[2] / "docs" / "care.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]


def test_commands_run_in_order(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "guide").mkdir()
    shutil.move(copy, tmp_path / "guide" / "my.store")
    monkeypatch.chdir(tmp_path / "guide")
    assert len(COMMANDS) >= 8
    for line in COMMANDS:
        command = line.replace("file:///tmp/pergamon-guide", f"file://{tmp_path / 'guide'}")
        program, *arguments = shlex.split(command, comments=True)
        assert program == "pergamon"
        done = CliRunner().invoke(app, arguments, env={"COLUMNS": "160"})
        assert done.exit_code == 0, (command, done.output, done.exception)


def test_damage_and_its_repair_are_said(copy: Path) -> None:
    path = copy / "segments" / "00000001-000001" / "columns.arrow"
    path = path if path.exists() else next(copy.glob("segments/*/columns.arrow"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    runner = CliRunner()
    failed = runner.invoke(app, ["verify", str(copy)])
    assert failed.exit_code != 0
    assert "columns.arrow is damaged" in str(failed.exception)
    name = path.relative_to(copy).as_posix()
    for arguments, end in ((["--dry-run"], "would be sound"), ([], "is sound")):
        done = runner.invoke(app, ["repair", str(copy), *arguments])
        assert done.exit_code == 0
        first, last = done.stdout.splitlines()
        assert first == f"{name}: made anew from the passages"
        assert end in last
    assert runner.invoke(app, ["verify", str(copy)]).exit_code == 0
