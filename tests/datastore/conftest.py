from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from datastore.build import build
from datastore.config import BuildConfig, load_config

Config = Callable[..., BuildConfig]
WriteDocuments = Callable[..., Path]

WORDS = ("amber", "basalt", "cedar", "delta", "ember", "fjord", "garnet", "heath", "island", "juniper", "kelp")


@pytest.fixture(scope="session")
def config() -> Config:
    """Settings with the hashing encoder; sections as keyword arguments."""

    def make(**sections: dict[str, Any]) -> BuildConfig:
        sections.setdefault("encoder", {"name": "hashing"})
        return load_config(None, sections)

    return make


@pytest.fixture(scope="session")
def write_documents() -> WriteDocuments:
    """Writes `count` documents of some words each, all different, into a JSON Lines file."""

    def write(path: Path, count: int, words: Sequence[str] = WORDS) -> Path:
        with path.open("w", encoding="utf-8") as lines:
            for i in range(count):
                text = " ".join(words[(i * 7 + j * j) % len(words)] for j in range(5 + i % 11))
                record = {"_id": f"d{i}", "title": f"Item {i}", "text": f"{text} number{i}", "year": 1900 + i}
                lines.write(json.dumps(record) + "\n")
        return path

    return write


@pytest.fixture(scope="session")
def _flat_store(tmp_path_factory: pytest.TempPathFactory, config: Config, write_documents: WriteDocuments) -> Path:
    folder = tmp_path_factory.mktemp("flat")
    source = write_documents(folder / "items.jsonl", 60)
    build([str(source)], folder / "store", config(segment={"passages": 13}))
    return folder / "store"


@pytest.fixture
def flat_store(_flat_store: Path, tmp_path: Path) -> Path:
    """A copy of a sound store: 60 documents of one passage in five segments, flat index."""
    return Path(shutil.copytree(_flat_store, tmp_path / "flat-store"))


@pytest.fixture(scope="session")
def _ivf_store(tmp_path_factory: pytest.TempPathFactory, config: Config, write_documents: WriteDocuments) -> Path:
    folder = tmp_path_factory.mktemp("ivf")
    source = write_documents(folder / "items.jsonl", 300)
    with source.open("a") as lines:
        lines.write("no JSON\n")
    index = {"kind": "ivf-pq", "nlist": 4, "pq_m": 8}
    build([str(source)], folder / "store", config(index=index, segment={"passages": 150}))
    return folder / "store"


@pytest.fixture
def ivf_store(_ivf_store: Path, tmp_path: Path) -> Path:
    """A copy of a sound store: 300 documents of one passage in two segments, IVF-PQ index, one reject."""
    return Path(shutil.copytree(_ivf_store, tmp_path / "ivf-store"))
