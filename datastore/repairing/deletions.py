"""What is left to do where nobody knows any more which rows of a segment are deleted: bring them back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datastore.keeping.documents import OpenPassages, StoredDocuments
from datastore.repairing.manifests import Action
from datastore.store.checksums import is_whole
from datastore.store.deletions import write_deletions
from datastore.store.manifest import Manifest, SegmentRecord, publish, succeeding
from datastore.store.passages import PassageStore
from datastore.store.segment import PASSAGES, SEGMENTS_FOLDER

_BATCH = 1024


def undelete(
    store: Path, manifest: Manifest, *, without: Collection[str], dry_run: bool
) -> tuple[Manifest, list[Action]]:
    """Publish a generation in which segments whose deletions cannot be read have all of their documents, but those that
    another segment has: in whose place newer ones came. What was deleted otherwise is back.

    Args:
        without: files that count as whole.
        dry_run: publish nothing; the manifest is then the one that was given.

    Raises:
        DataLoss: names of documents cannot be read, either.
    """
    records = list(manifest.segments)
    unknown = {
        position: record.deletions
        for position, record in enumerate(records)
        if record.deletions is not None
        and record.deletions.file.path not in without
        and not is_whole(store, record.deletions.file)
    }
    known = [record for position, record in enumerate(records) if position not in unknown]
    actions = []
    for position, lost in reversed(
        unknown.items()
    ):  # of two with the same document the newer segment has the newer one
        record = records[position]
        rows, documents = _replaced(store, record, known)
        back = lost.documents - documents
        actions.append(
            Action(
                lost.file.path,
                f"let go: {max(back, 0)} deleted documents of {record.segment_id} are back; delete them again",
            )
        )
        deletions = None
        if documents and not dry_run:
            deletions = write_deletions(store, record.segment_id, manifest.generation + 1, rows, documents)
        records[position] = replace(record, deletions=deletions)
        known.append(records[position])
    if dry_run or not unknown:
        return manifest, actions
    after = succeeding(manifest, segments=tuple(record for record in records if record.live_passages))
    publish(store, after)
    return after, actions


def _replaced(store: Path, record: SegmentRecord, others: Sequence[SegmentRecord]) -> tuple[NDArray[np.bool_], int]:
    """(bool [passages]: rows of documents that are in other segments, too; how many documents those are)."""
    rows, documents = np.zeros(record.passages, bool), 0
    with closing(OpenPassages(store)) as opened:
        elsewhere = StoredDocuments(store, tuple(others), opened)
        runs = _runs(store, record)
        while batch := list(islice(runs, _BATCH)):
            places = elsewhere.find([document_id for document_id, _, _ in batch])
            for (_, first, count), place in zip(batch, places, strict=True):
                if place is not None:
                    rows[first : first + count] = True
                    documents += 1
    return rows, documents


def _runs(store: Path, record: SegmentRecord) -> Iterator[tuple[str, int, int]]:
    with closing(PassageStore(store / SEGMENTS_FOLDER / record.segment_id / PASSAGES)) as passages:
        yield from passages.scan_runs()
