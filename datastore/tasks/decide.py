"""What the scans of all tasks decide together: which documents stay, and whether the input is good enough to go on.

The decisions on a task's documents are a file of one byte for each, by ordinal: 0 keeps it, any other value is the
number of a reason. A task without such a file keeps all.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datastore.cleaning.duplicates import Duplicates, find_duplicate_texts
from datastore.cleaning.settings import DuplicateSettings
from datastore.cleaning.signatures import keep_keys_alone
from datastore.sources.admission import duplicate_id
from datastore.sources.rejects import Rejects
from datastore.tasks.digests import Digests, find_duplicates
from datastore.tasks.scan import read_places
from datastore.tasks.spool import decode, read_lines
from datastore.tasks.workspace import TaskFolder, Workspace, read_marker, write_marker

KEPT = 0
DUPLICATE_ID = 1
DUPLICATE_TEXT = 2


@dataclass(frozen=True, slots=True)
class Decided:
    """What becomes of the input."""

    documents: int
    """That are kept."""
    rejected: int
    by_reason: dict[str, int]
    masked: dict[str, int]
    """Places where personal data was masked, by kind."""


def decide(workspace: Workspace, tasks: int, rejects: Rejects, duplicates: DuplicateSettings | None) -> None:
    """Find documents that are left out for others, in any task, and put all rejects into `rejects`, in input order.

    Args:
        duplicates: what documents with an id of their own are duplicates; None keeps them.
    """
    folders = [workspace.task(number) for number in range(tasks)]
    scans = [_scan_of(folder) for folder in folders]
    for folder in folders:
        folder.decisions.unlink(missing_ok=True)
    _drop_duplicates(folders, scans)
    texts: Iterator[Duplicates | None] = itertools.repeat(None, len(folders))
    if duplicates:
        texts = find_duplicate_texts(
            [folder.signatures for folder in folders],
            duplicates,
            workspace.duplicates,
            (_left_out(folder, scan) for folder, scan in zip(folders, scans, strict=True)),
        )
    documents = 0
    masked: Counter[str] = Counter()
    with rejects:
        for folder, scan, same in zip(folders, scans, texts, strict=True):
            masked += Counter(scan["masked"])
            dropped = leave_out(folder, scan["documents"], same, rejects)
            write_marker(folder.kept, {"documents": scan["documents"] - dropped})
            documents += scan["documents"] - dropped
    decided = Decided(documents, rejects.total, dict(sorted(rejects.by_reason.items())), dict(sorted(masked.items())))
    write_marker(workspace.decided, asdict(decided))
    for folder in folders:
        keep_keys_alone(folder.signatures)


def read_decided(workspace: Workspace) -> Decided | None:
    """What was decided, once it was."""
    marker = read_marker(workspace.decided)
    return None if marker is None else Decided(**marker)


def kept_documents(folder: TaskFolder, documents: int) -> NDArray[np.int64]:
    """Ordinals of those of a task that are kept, ascending."""
    decisions = read_decisions(folder)
    return np.arange(documents) if decisions is None else np.flatnonzero(decisions == KEPT)


def read_decisions(folder: TaskFolder) -> NDArray[np.uint8] | None:
    """uint8 [documents of the task], mapped; None where all are kept."""
    return np.memmap(folder.decisions, np.uint8, "r") if folder.decisions.exists() else None


def _scan_of(folder: TaskFolder) -> dict[str, Any]:
    scan = read_marker(folder.scanned)
    assert scan is not None
    return scan


def _drop_duplicates(folders: Sequence[TaskFolder], scans: Sequence[dict[str, Any]]) -> None:
    files = [Digests(folder.ids, scan["runs"]) for folder, scan in zip(folders, scans, strict=True)]
    for found in find_duplicates(files):
        for task in np.unique(found.tasks).tolist():
            decisions = _open_decisions(folders[task].decisions, scans[task]["documents"])
            decisions[found.ordinals[found.tasks == task]] = DUPLICATE_ID


def _open_decisions(path: Path, documents: int) -> NDArray[np.uint8]:
    if not path.exists():
        with path.open("wb") as file:
            file.truncate(documents)
    return np.memmap(path, np.uint8, "r+")


def _left_out(folder: TaskFolder, scan: dict[str, Any]) -> NDArray[np.bool_]:
    decisions = read_decisions(folder)
    return np.zeros(scan["documents"], bool) if decisions is None else np.asarray(decisions) != KEPT


def leave_out(folder: TaskFolder, documents: int, texts: Duplicates | None, rejects: Rejects) -> int:
    """Leave duplicates out, too, and put all that a task leaves out into `rejects`, in the order of the input.

    Args:
        documents: of the task.

    Returns:
        How many documents are left out.
    """
    if texts is not None and len(texts.rows):
        _open_decisions(folder.decisions, documents)[texts.rows] = DUPLICATE_TEXT
    decisions = read_decisions(folder)
    refused = zip(read_places(folder.reject_places), _lines(folder.rejects), strict=True)
    place, line = next(refused, (None, b""))
    dropped = left = 0 if decisions is None else int(np.count_nonzero(decisions != KEPT))
    if decisions is not None and dropped:
        for ordinal, document_line in enumerate(read_lines(folder.documents)):
            reason = int(decisions[ordinal])
            if reason == KEPT:
                continue
            while place is not None and place <= ordinal:
                rejects.take(line)
                place, line = next(refused, (None, b""))
            document, file, number = decode(document_line)
            if reason == DUPLICATE_TEXT and texts is not None:
                refusal = texts.duplicate(ordinal).refusal()
            else:
                refusal = duplicate_id(document.document_id)
            rejects.add(file, number, refusal, document.text or document.title)
            left -= 1
            if not left:  # what follows is kept, and need not be read
                break
    while place is not None:
        rejects.take(line)
        place, line = next(refused, (None, b""))
    return dropped


def _lines(path: Path) -> Iterator[bytes]:
    if path.exists():
        with path.open("rb") as file:
            yield from file
