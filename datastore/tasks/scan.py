"""The scan of a task: its part of the input is read, and what may be a document is kept for the steps to come."""

from __future__ import annotations

import contextlib
from array import array
from collections import Counter
from collections.abc import Callable, Sequence

from datastore.cleaning.cleaner import Cleaner
from datastore.cleaning.signatures import SignatureWriter
from datastore.config import BuildConfig
from datastore.sources.admission import check_document
from datastore.sources.found import Piece
from datastore.sources.inputs import read_piece
from datastore.sources.rejects import RefusedError, Rejects
from datastore.store.durable import fsync_path, fsync_tree
from datastore.tasks.digests import DigestWriter
from datastore.tasks.spool import SpoolWriter
from datastore.tasks.workspace import TaskFolder, write_marker

_TELL_EVERY = 1000


def scan(
    task: TaskFolder,
    pieces: Sequence[Piece],
    config: BuildConfig,
    cleaner: Cleaner,
    on_progress: Callable[[int, int], None],
) -> None:
    """Read all pieces, and leave documents, digests of their ids and rejects in the folder of the task.

    What the cleaner refuses is a reject as any other; documents are kept as it returns them. Where duplicates are to be
    found, signatures are left as well.

    Args:
        on_progress: told how many documents were admitted and how many records refused.
    """
    for left_over in (task.documents, task.ids, task.rejects):
        left_over.unlink(missing_ok=True)
    masked: Counter[str] = Counter()
    with contextlib.ExitStack() as opened:
        spool = opened.enter_context(SpoolWriter(task.documents))
        rejects = PlacedRejects(task, spool)
        opened.callback(rejects.close)
        digests = DigestWriter(task.ids)
        opened.callback(digests.abort)
        signatures = None
        if config.clean.compared:
            signatures = SignatureWriter(task.signatures, config.clean.compared)
            opened.callback(signatures.abort)
        for piece in pieces:
            for found in read_piece(piece, rejects, config.input):
                document = found.document
                try:
                    digest = check_document(document)
                    document, tags = cleaner.mask(document)
                    cleaner.check(document)
                except RefusedError as refused:
                    rejects.add(found.file, found.line, refused, document.text or document.title)
                else:
                    digests.add(digest, spool.documents)
                    if signatures:
                        signatures.add(document)
                    masked += tags
                    spool.add(found._replace(document=document))
                    if spool.documents % _TELL_EVERY == 0:
                        on_progress(spool.documents, rejects.total)
        digests.close()
        if signatures:
            signatures.finish()
    for made in (task.documents, task.ids, task.rejects):
        if made.exists():
            fsync_path(made)
    if signatures:
        fsync_tree(task.signatures)
    write_marker(
        task.scanned,
        {
            "documents": spool.documents,
            "rejected": rejects.total,
            "masked": masked,
            "runs": digests.runs,
            "reject_places": list(rejects.places),
        },
    )
    on_progress(spool.documents, rejects.total)


class PlacedRejects(Rejects):
    """Remembers of each reject after how many documents it came (`places`)."""

    def __init__(self, task: TaskFolder, spool: SpoolWriter) -> None:
        super().__init__(task.rejects)
        self.places = array("Q")
        self._spool = spool

    def add(self, file: str, line: int, refused: RefusedError, excerpt: str | bytes = "") -> None:
        super().add(file, line, refused, excerpt)
        self.places.append(self._spool.documents)
