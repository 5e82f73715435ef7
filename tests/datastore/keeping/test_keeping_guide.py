"""The example of docs/keeping.md runs, and its commands are there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import typer.main

from pergamon.cli import app

GUIDE = (Path(__file__).parents[3] / "docs" / "keeping.md").read_text(encoding="utf-8")


def test_the_example(tmp_path: Path) -> None:
    def write(name: str, numbers: range) -> str:
        records = [
            {"_id": f"n{i}", "text": " ".join(f"word{(i + j * j) % 40}" for j in range(9)), "year": 1900 + i}
            for i in numbers
        ]
        path = tmp_path / name
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return str(path)

    names = {"source": write("notes.jsonl", range(100)), "more": write("more.jsonl", range(100, 110))}
    (example,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    exec(example, {**names, "store": tmp_path / "store"})


def test_the_commands_have_the_options_shown() -> None:
    root = typer.main.get_command(app)
    shown = [line for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]
    assert len(shown) > 5
    for line in shown:
        program, name, *words = shlex.split(line, comments=True)
        assert program == "pergamon"
        options = {option for parameter in root.commands[name].params for option in parameter.opts}  # type: ignore[attr-defined]
        assert {word for word in words if word.startswith("--")} <= options, line
