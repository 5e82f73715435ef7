"""A build of more tasks than files may be open: 1,024 by default, and a task has some eight files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import datastore.cleaning.duplicates as duplicates_module
from datastore.build import build
from datastore.cleaning.duplicates import find_duplicate_texts
from datastore.cleaning.settings import DuplicateSettings
from datastore.cleaning.signatures import SignatureWriter
from datastore.documents import Document
from datastore.tasks.digests import Digests, DigestWriter, find_duplicates
from tests.open_files import may_open

if TYPE_CHECKING:
    from tests.datastore.conftest import Config

TASKS = 150


def test_ids(tmp_path: Path) -> None:
    files = []
    for task in range(TASKS):
        writer = DigestWriter(tmp_path / str(task))
        writer.add(bytes(16), 0)
        writer.close()
        files.append(Digests(tmp_path / str(task), writer.runs))
    with may_open(TASKS - 30):
        (found,) = find_duplicates(files)
    assert found.tasks.tolist() == list(range(1, TASKS))


def test_texts(tmp_path: Path) -> None:
    settings = DuplicateSettings(shingle_words=3, permutations=16)
    folders = [tmp_path / str(task) for task in range(TASKS)]
    for task, folder in enumerate(folders):
        writer = SignatureWriter(folder, settings)
        writer.add(Document(f"d{task}", "one two three four five six seven eight nine ten" + " eleven" * (task % 3)))
        writer.finish()
    files_of_a_task = 8
    with may_open(duplicates_module._OPEN_TASKS * files_of_a_task):
        searched = find_duplicate_texts(folders, settings, tmp_path / "work")
        found = [duplicates.duplicate(row) for duplicates in searched for row in duplicates.rows.tolist()]
    assert len(found) == TASKS - 1
    assert {duplicate.earlier_id for duplicate in found} == {"d0", "d1", "d2"}
    assert sum(duplicate.exact for duplicate in found) == TASKS - 3


def test_rejects_come_in_the_order_of_the_input(tmp_path: Path, config: Config) -> None:
    """Those of the scan and those that are decided over all tasks, whichever came first."""
    source = tmp_path / "items.jsonl"
    lines = [f'{{"id": "{i // 2}", "text": "text {i // 3}"}}' if i % 5 else "no json" for i in range(60)]
    source.write_text("\n".join(lines))
    settings = config(
        input={"task_bytes": 300, "max_rejected_share": 1}, clean={"duplicates": {"near": False}}, chunk={"words": 9}
    )
    manifest = build([str(source)], tmp_path / "store", settings)
    rejects = (tmp_path / "store" / "rejects-1.jsonl").read_text().splitlines()
    numbers = [int(line.partition('"line": ')[2].partition(",")[0]) for line in rejects]
    assert numbers == sorted(numbers)
    assert len(numbers) == len(set(numbers)) == 60 - manifest.documents
    assert manifest.rejects.by_reason["not JSON"] == 12
    assert set(manifest.rejects.by_reason) == {"not JSON", "duplicate id", "exact duplicate"}
