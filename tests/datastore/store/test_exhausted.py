"""What runs out while a store is read is named, and never taken for damage."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from datastore.errors import ResourceExhausted
from datastore.keeping.compaction import compact
from datastore.keeping.deletion import delete
from datastore.repairing.repair import repair
from datastore.store.manifest import read_manifest
from datastore.store.reader import StoreReader
from datastore.verify import verify
from tests.open_files import may_open


def _search(store: Path) -> None:
    reader = StoreReader(store)
    try:
        assert reader.bm25 is not None
        reader.ann.search(np.ones((1, reader.manifest.encoder.dimension), np.float32), 5, 2, None)
        reader.bm25.search("the", 5)
    finally:
        reader.close()


def _verify(store: Path) -> None:
    assert verify(store).problems == ()


def _repair(store: Path) -> None:
    done = repair(store, drop_damaged=True)
    assert (done.actions, done.unrepaired) == ((), ())


def _delete(store: Path) -> None:
    assert delete(store, document_ids=["d1"]).documents == 1


def _compact(store: Path) -> None:
    compact(store)


@pytest.mark.parametrize("act", [_search, _verify, _repair, _delete, _compact])
def test_files_that_may_be_open(ivf_store: Path, act: Callable[[Path], None]) -> None:
    _search(ivf_store)  # Java and others have loaded what they need
    delete(ivf_store, document_ids=["d0"])
    files = 0
    for files in range(60):
        with may_open(files), suppress(ResourceExhausted):
            act(ivf_store)
            break
    assert 3 < files < 59
    found = verify(ivf_store)
    assert (found.problems, found.orphans) == ((), ())
    manifest = read_manifest(ivf_store)
    assert manifest.passages == (298 if act is _delete else 299)
    assert manifest.generation == (3 if act in {_delete, _compact} else 2)
