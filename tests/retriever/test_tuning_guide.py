"""The example of docs/tuning.md runs, and its commands are there."""

from __future__ import annotations

import json
import random
import re
import shlex
from pathlib import Path

import typer.main

from pergamon.cli import app

GUIDE = (Path(__file__).parents[2] / "docs" / "tuning.md").read_text(encoding="utf-8")


def test_the_example(tmp_path: Path) -> None:
    chance, words = random.Random(4), [f"word{i}" for i in range(200)]
    texts = [" ".join(chance.choices(words, k=9)) for _ in range(900)]
    source = tmp_path / "notes.jsonl"
    source.write_text("".join(json.dumps({"_id": f"n{i}", "text": text}) + "\n" for i, text in enumerate(texts)))
    questions = [" ".join(chance.choices(words, k=6)) for _ in range(300)]
    (example,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    exec(example, {"source": str(source), "store": tmp_path / "store", "questions": questions})


def test_the_commands_have_the_options_shown() -> None:
    root = typer.main.get_command(app)
    shown = [line for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]
    assert len(shown) > 5
    for line in shown:
        name, *words = shlex.split(line, comments=True)
        assert name == "pergamon"
        command = root
        while subcommands := getattr(command, "commands", {}):
            command = subcommands[words.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= options, line
