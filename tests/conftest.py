"""Real datastores for the tests of several rooms, each built once a session with the hashing encoder."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from datastore.build import build
from datastore.config import load_config
from tests.s3_service import running

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of a shell's background jobs; what tests start inherits it
    signal.signal(signal.SIGINT, signal.default_int_handler)

BuildStore = Callable[..., Path]


@pytest.fixture(scope="session")
def collection() -> Callable[[str], Path]:
    """`collection(name)`: the folder of a real collection, where PERGAMON_DATA names a folder that has it."""

    def find(name: str) -> Path:
        root = os.environ.get("PERGAMON_DATA")
        if not root or not Path(root, name).is_dir():
            pytest.skip(f"PERGAMON_DATA does not name a folder with the collection {name}")
        return Path(root, name)

    return find


@pytest.fixture(scope="session")
def build_store(tmp_path_factory: pytest.TempPathFactory) -> BuildStore:
    """`build_store(input, section={key: value}, …)`: the folder of a new datastore."""

    def make(source: Path, **settings: dict[str, Any]) -> Path:
        store = tmp_path_factory.mktemp("stores") / f"{source.stem}.store"
        build([str(source)], store, load_config(None, {"encoder": {"name": "hashing"}, **settings}))
        return store

    return make


@pytest.fixture(scope="session")
def cacm_store(collection: Callable[[str], Path], build_store: BuildStore) -> Path:
    return build_store(collection("cacm"), chunk={"words": 0}, segment={"passages": 500})


@pytest.fixture(scope="session")
def scifact_store(collection: Callable[[str], Path], build_store: BuildStore) -> Path:
    return build_store(collection("scifact"), chunk={"words": 0})


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of an S3-compatible service on loopback, which s3:// means meanwhile, and of its empty buckets."""
    root = tmp_path_factory.mktemp("s3")
    for bucket in ("corpora", "guarded", "snapshots"):
        (root / bucket).mkdir()
    with running(root) as settings, pytest.MonkeyPatch.context() as environment:
        for name, value in settings.items():
            environment.setenv(name, value)
        yield root
