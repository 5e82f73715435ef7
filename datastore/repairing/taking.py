"""Damaged files taken from a snapshot, of whatever generation: a file has the same bytes in all that name it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from datastore.errors import DataLoss, NotFound
from datastore.repairing.manifests import Action
from datastore.snapshots.places import open_place
from datastore.store.checksums import FileRecord, is_whole
from datastore.store.manifest import MANIFEST_NAME


def take_damaged(store: Path, records: Iterable[FileRecord], source: str, *, dry_run: bool) -> list[Action]:
    """Put every file that is not what was recorded, and that the snapshot at `source` has, in its place.

    Raises:
        NotFound: there is no snapshot.
        Unavailable, InvalidArgument: it cannot be read.
    """
    place = open_place(source)
    if place.read(MANIFEST_NAME) is None:
        raise NotFound(f"there is no snapshot at {source}: it has no {MANIFEST_NAME}", mend="check the path")
    actions = []
    for record in records:
        if is_whole(store, record) or not place.has(record, listed=True):
            continue
        if not dry_run:
            path = store / record.path
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            try:
                place.give(store, record)
            except DataLoss:  # it is damaged there, too
                continue
        actions.append(Action(record.path, f"taken from {source}"))
    return actions
