"""A changed bit, wherever it is: `verify` names the file, and a search is right or fails with DataLoss."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.faults.flips import Probe, answers, flip_everywhere, positions, summary
from datastore.build import build
from datastore.config import load_config
from datastore.documents import PassageName
from datastore.store.manifest import read_manifest

WORDS = ("amber", "basalt", "cedar", "delta", "ember", "fjord", "garnet")
PROBE = Probe(("amber number7", "cedar fjord"), (PassageName("d5", 0), PassageName("d299", 0)), "year > 2000")
KINDS = {"flat": ("",), "ivf-pq4": ("ann.lists", "template.npz"), "ivf-pq": ("ann.faiss", "template.faiss")}


@pytest.mark.parametrize("kind", KINDS)
def test_flips(kind: str, tmp_path: Path) -> None:
    with (tmp_path / "items.jsonl").open("w") as lines:
        for i in range(300):
            text = " ".join(WORDS[(i * j) % 7] for j in range(1, 9))
            lines.write(json.dumps({"_id": f"d{i}", "text": f"{text} number{i}", "year": 1900 + i}) + "\n")
        lines.write("a line that is rejected\n")
    index = {"kind": kind} if kind == "flat" else {"kind": kind, "nlist": 4, "pq_m": 8 if kind == "ivf-pq" else None}
    clean = {"duplicates": {"exact": True}}
    config = {"encoder": {"name": "hashing"}, "index": index, "segment": {"passages": 300}, "clean": clean}
    store = tmp_path / "store"
    build([str(tmp_path / "items.jsonl")], store, load_config(None, config))
    assert len(answers(store, PROBE)) == 2 * 3 * 2 + 2

    flips = list(flip_everywhere(store, PROBE, more=1, edges=(16,), suffixes=KINDS[kind]))
    assert [flip for flip in flips if not flip.sound] == []
    changed = {flip.path for flip in flips}
    wanted = {record.path for record in read_manifest(store).files() if record.path.endswith(KINDS[kind])}
    assert {path for path in changed if not path.endswith(".json")} == {
        path for path in wanted if (store / path).stat().st_size
    }
    assert any(lost for _, _, _, lost, _ in summary(flips))


def test_positions() -> None:
    assert positions(0, "a", 5) == []
    assert positions(1, "a", 5) == [0]
    assert positions(1000, "a", 0, (0, 8)) == [0, 8, 250, 500, 750, 991, 999]
