"""A build that is killed: the store is then absent, or whole, and the next build makes it as if nothing had been."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from datastore.build import build
from datastore.config import load_config
from datastore.errors import NotFound
from datastore.store.manifest import MANIFEST_NAME, read_manifest
from datastore.store.reader import StoreReader
from datastore.tasks.workspace import WORK_FOLDER
from datastore.verify import verify
from retriever.api import SearchRequest
from retriever.client import open_store

DOCUMENTS = 1_500
QUERIES = ("amber basalt", "cedar number77", "delta ember fjord", "number1234")
TOML = """
encoder.name = "hashing"
segment.passages = 250
index.kind = "ivf-pq"
index.nlist = 16
index.pq_m = 8
"""

Moment = Callable[[Path], bool]


@dataclass(frozen=True)
class Undisturbed:
    """What a build that nobody kills makes, and how long its process takes."""

    source: Path
    toml: Path
    seconds: float
    answers: list[list[tuple[str, float]]]
    files: dict[str, str]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    words = ("amber", "basalt", "cedar", "delta", "ember", "fjord", "garnet")
    with (folder / "items.jsonl").open("w") as lines:
        for i in range(DOCUMENTS):
            text = " ".join(words[(i * j) % 7] for j in range(1, 9))
            lines.write(json.dumps({"_id": f"d{i}", "text": f"{text} number{i}", "year": i}) + "\n")
        lines.write("a line that is rejected\n")
    toml = folder / "build.toml"
    toml.write_text(TOML)
    started = time.monotonic()
    with start_build(folder / "items.jsonl", folder / "store", toml) as process:
        assert process.wait() == 0
    seconds = time.monotonic() - started
    return Undisturbed(folder / "items.jsonl", toml, seconds, answers(folder / "store"), stable_files(folder / "store"))


def start_build(source: Path, store: Path, toml: Path) -> subprocess.Popen[bytes]:
    command = ["build", "--input", str(source), "--store", str(store), "--config", str(toml)]
    return subprocess.Popen(
        [sys.executable, "-m", "pergamon.cli", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def answers(store: Path) -> list[list[tuple[str, float]]]:
    found = []
    retriever = open_store(store)
    for mode in ("hybrid", "dense", "bm25"):
        for query in QUERIES:
            response = retriever.search(SearchRequest(query, k=20, mode=mode, nprobe=16))
            found.append([(hit.document_id, hit.score) for hit in response.hits])
    retriever.close()
    return found


def stable_files(store: Path) -> dict[str, str]:
    """Checksums of the files whose bytes depend on nothing but the input."""
    return {
        f.path: f.xxh3_128
        for f in read_manifest(store).files()
        if f.path.endswith((".f16", ".arrow", ".faiss")) or f.path.startswith("rejects")
    }


def segments(store: Path) -> int:
    return len(list(store.glob("segments/*")))


MOMENTS: dict[str, Moment] = {
    "it begins": lambda store: (store / "write.lock").exists(),
    "the first segment appears": lambda store: segments(store) >= 1,
    "the second segment appears": lambda store: segments(store) >= 2,
    "the last segment appears": lambda store: segments(store) >= DOCUMENTS // 250,
    "the first codes appear": lambda store: any(store.glob("segments/*/ann.faiss")),
    "the template appears": lambda store: (store / "template.faiss").exists(),
    "the manifest is being written": lambda store: (
        (store / f"{MANIFEST_NAME}.tmp").exists() or (store / MANIFEST_NAME).exists()
    ),
}
SEEDS = (1, 2, 3)


@pytest.mark.parametrize("moment", [*MOMENTS, *(f"seed {seed}" for seed in SEEDS)])
def test_kill(undisturbed: Undisturbed, tmp_path: Path, moment: str) -> None:
    store = tmp_path / "store"
    reached = MOMENTS.get(moment)
    # A seeded moment lies anywhere between the start of the work, after some imports, and its end.
    delay = random.Random(moment).uniform(0.3, 1.0) * undisturbed.seconds
    started = time.monotonic()
    with start_build(undisturbed.source, store, undisturbed.toml) as process:
        while process.poll() is None:
            if reached(store) if reached else time.monotonic() - started > delay:
                break
            time.sleep(0.0005)
        process.kill()
    if reached:
        assert process.returncode == -signal.SIGKILL or (store / MANIFEST_NAME).exists()

    if (store / MANIFEST_NAME).exists():
        check_whole(store, undisturbed)
        return
    for look in (read_manifest, StoreReader, verify):
        with pytest.raises(NotFound, match="no datastore"):
            look(store)
    build([str(undisturbed.source)], store, load_config(undisturbed.toml, {}))
    check_whole(store, undisturbed)


def check_whole(store: Path, undisturbed: Undisturbed) -> None:
    report = verify(store)
    assert report.problems == ()
    # Killed right after it was published, a build leaves the notes of its making, which the next writer removes.
    assert [path for path in report.orphans if not path.startswith(f"{WORK_FOLDER}/")] == []
    assert stable_files(store) == undisturbed.files
    for seen, wanted in zip(answers(store), undisturbed.answers, strict=True):
        assert [name for name, _ in seen] == [name for name, _ in wanted]
        np.testing.assert_allclose([score for _, score in seen], [score for _, score in wanted], rtol=1e-6)
