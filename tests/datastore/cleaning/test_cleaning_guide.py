"""docs/cleaning.md: its example gives what it says, its tables have every setting and its default."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections import Counter
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
import typer.main

from datastore.build import build
from datastore.cleaning.personal import PersonalMask
from datastore.cleaning.settings import (
    ClassifierSettings,
    ContaminationSettings,
    DuplicateSettings,
    FineWebSettings,
    GopherSettings,
    LanguageSettings,
    PersonalSettings,
    RepetitionSettings,
    RephrasedSettings,
)
from datastore.config import load_config
from datastore.sources.rejects import CLEANING_REASONS
from pergamon.cli import app

GUIDE = (Path(__file__).parents[3] / "docs" / "cleaning.md").read_text(encoding="utf-8")
TABLES = {
    "language": LanguageSettings,
    "gopher": GopherSettings,
    "repetition": RepetitionSettings,
    "fineweb": FineWebSettings,
    "classifier": ClassifierSettings,
    "duplicates": DuplicateSettings,
    "contamination": ContaminationSettings,
    "contamination.rephrased": RephrasedSettings,
    "personal": PersonalSettings,
}


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    return str(found)


def test_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (question,) = re.findall(r"has one question, `([^`]+)`", GUIDE)
    Path("questions.txt").write_text(question)
    Path("build.toml").write_text(block("toml"))
    Path("documents.jsonl").write_text(block("jsonl"))
    settings = load_config(Path("build.toml"), {"encoder": {"name": "hashing"}})
    manifest = build(["documents.jsonl"], tmp_path / "store", settings)
    ids = [json.loads(line)["id"] for line in block("jsonl").splitlines()]
    rejects = [json.loads(line) for line in (tmp_path / "store" / "rejects-1.jsonl").read_text().splitlines()]
    said = [f"| {ids[each['line'] - 1]} | {each['reason']} | {each['detail']} |" for each in rejects]
    assert "\n".join(["| --- | --- | --- |", *said, ""]) in GUIDE
    assert manifest.masked == {"email": 1, "phone": 1}
    contact = json.loads(block("jsonl").splitlines()[-1])["text"]
    assert f"`{PersonalMask(PersonalSettings()).mask(contact, Counter())}`" in GUIDE


@pytest.mark.parametrize("table", TABLES)
def test_every_setting_is_there_with_its_default(table: str) -> None:
    (rows,) = re.findall(rf"^\| `\[clean\.{re.escape(table)}\]`.*\n\|[ -|]+\n((?:\|.*\n)+)", GUIDE, re.MULTILINE)
    shown = dict(re.findall(r"^\| `(\w+)` \| (?:`([^`]+)`|required|none) \|", rows, re.MULTILINE))
    expected: dict[str, Any] = {}
    for field in fields(TABLES[table]):
        if field.name != "rephrased":
            default = field.default
            expected[field.name] = (
                None if default is MISSING else list(default) if isinstance(default, tuple) else default
            )
    parsed = {name: tomllib.loads(f"x = {value}")["x"] if value else None for name, value in shown.items()}
    assert parsed == expected


def test_every_reason_is_there() -> None:
    assert {reason for reason in CLEANING_REASONS if reason not in GUIDE} == set()


def test_the_commands_have_the_options_shown() -> None:
    root = typer.main.get_command(app)
    options = {option for parameter in root.commands["build"].params for option in parameter.opts}  # type: ignore[attr-defined]
    for line in block("sh").splitlines():
        words = shlex.split(line)
        assert words[:2] == ["pergamon", "build"]
        assert {word for word in words if word.startswith("--")} <= options
