"""The documents say what is there: paths exist, links lead somewhere, every command is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from pergamon.cli import app

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
_PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]*)`")
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)\)")
_EXAMPLES = (
    "segments/",
    "work/",
    "generations/",
    "deletions/",
    "passages/",
    "bm25/",
    "scifact/",
    "cacm/",
    "vaswani/",
    "rpc/",
    "owner/",
    "qrels/",
    "notes/",
)
"""Paths inside a store, a collection or a room that the sentence names."""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_paths_and_links_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = [path for path in _PATH.findall(text) if not path.startswith(_EXAMPLES)]
    missing = [path for path in named if not (ROOT / path).exists()]
    missing += [link for link in _LINK.findall(text) if not (document.parent / link).exists()]
    assert not missing


def test_the_architecture_names_every_room() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rooms = {path.parent for path in ROOT.glob("[bdpr]*/**/*.py") if "stubs" not in path.parts}
    named = {room.relative_to(ROOT).as_posix() for room in rooms if room.name != "messages"}
    assert not {room for room in named if f"`{room}/" not in text and f"{room.rsplit('/', 1)[-1]}/" not in text}


def test_the_readme_shows_every_command() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = typer.main.get_command(app)
    assert isinstance(command, typer.core.TyperGroup)
    assert not [name for name in command.commands if f"pergamon {name}" not in readme]
