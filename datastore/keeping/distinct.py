"""What of an addition is a duplicate, of a text in the datastore or of another in the addition, and so is left out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datastore.cleaning.duplicates import Earlier, find_duplicate_texts
from datastore.cleaning.settings import DuplicateSettings
from datastore.cleaning.signatures import SignatureWriter
from datastore.documents import Document
from datastore.sources.found import Found
from datastore.sources.rejects import Rejects
from datastore.tasks.decide import kept_documents, leave_out, read_decisions
from datastore.tasks.scan import PlacedRejects
from datastore.tasks.spool import SpoolWriter, read_spool
from datastore.tasks.workspace import TaskFolder, Workspace


@dataclass(frozen=True, slots=True)
class Distinct:
    """What is left, kept in a folder."""

    task: TaskFolder
    kept: NDArray[np.int64]
    """Ordinals of what is left among all that was read: rows of the folder's signatures."""

    def documents(self) -> Iterator[Document]:
        return (found.document for found in read_spool(self.task.documents, read_decisions(self.task)))


def leave_out_duplicates(
    workspace: Workspace,
    read: Callable[[Rejects], Iterator[Found]],
    settings: DuplicateSettings,
    earlier: Callable[[], Earlier],
    rejects: Rejects,
) -> Distinct:
    """Read an input into `workspace`, as a build scans a task, and decide which of its documents stay.

    Args:
        read: the documents; what is refused goes to the rejects given.
        earlier: what the datastore has, looked at when all of the input has been read.
        rejects: what is left out for whatever reason comes here, in the order of the input.
    """
    workspace.remove()
    task = workspace.task(0)
    task.path.mkdir(parents=True)
    with contextlib.ExitStack() as opened:
        spool = opened.enter_context(SpoolWriter(task.documents))
        refused = PlacedRejects(task, spool)
        opened.callback(refused.close)
        signatures = SignatureWriter(task.signatures, settings)
        opened.callback(signatures.abort)
        for found in read(refused):
            signatures.add(found.document)
            spool.add(found)
        signatures.finish()
    for same in find_duplicate_texts([task.signatures], settings, workspace.duplicates, earlier=earlier()):
        leave_out(task, spool.documents, same, rejects)
    return Distinct(task, kept_documents(task, spool.documents))
