"""The examples of docs/sources.md run, and its commands, settings and extensions are there."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import typer.main

from datastore.config import load_config
from datastore.sources.registry import EXTENSIONS
from pergamon.cli import app

GUIDE = (Path(__file__).parents[3] / "docs" / "sources.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


def test_the_example_runs(tmp_path: Path) -> None:
    source = tmp_path / "x.jsonl"
    source.write_text("".join(json.dumps({"text": f"line {number} " * 9}) + "\n" for number in range(100)))
    (example,) = blocks("python")
    exec(example, {"source": str(source), "rejects_file": tmp_path / "rejects", "lines": 100})


def test_the_settings_are_taken(tmp_path: Path) -> None:
    for number, text in enumerate(blocks("toml")):
        path = tmp_path / f"{number}.toml"
        path.write_text(text)
        config = load_config(path, {})
        for section, values in tomllib.loads(text).items():
            assert {name: getattr(getattr(config, section), name) for name in values} == values


def test_the_commands_have_the_options_shown() -> None:
    build = typer.main.get_command(app).commands["build"]  # type: ignore[attr-defined]
    options = {option for parameter in build.params for option in parameter.opts}
    (shown,) = blocks("sh")
    for line in shown.splitlines():
        words = shlex.split(line)
        assert words[:2] == ["pergamon", "build"]
        assert {word for word in words if word.startswith("-")} <= options, line


def test_every_extension_is_listed() -> None:
    assert [extension for extension in EXTENSIONS if f"`{extension}`" not in GUIDE] == []
