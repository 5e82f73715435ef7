"""Which rows of a segment are deleted: a bitmap beside the segment, whose own files never change.

`deletions/SEGMENT-GENERATION.bits` has bit `r % 8`, from the lowest, of byte `r // 8` set where row `r` is deleted;
bits beyond the last row are 0. Every generation that deletes more rows of a segment writes the whole bitmap anew.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datastore.errors import DataLoss
from datastore.filters.survivors import Survivors
from datastore.store.checksums import MEND, hash_bytes, record_file, unreadable
from datastore.store.durable import fsync_path
from datastore.store.manifest import DELETIONS_FOLDER, Deletions, SegmentRecord


def write_deletions(
    store: Path, segment_id: str, generation: int, deleted: NDArray[np.bool_], documents: int
) -> Deletions:
    """Write and sync the bitmap of bool [passages of the segment].

    Args:
        documents: how many documents the rows are.
    """
    path = store / DELETIONS_FOLDER / f"{segment_id}-{generation:08d}.bits"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(np.packbits(deleted, bitorder="little").tobytes())
    fsync_path(path)
    fsync_path(path.parent)
    return Deletions(record_file(store, path), int(np.count_nonzero(deleted)), documents)


def read_deleted(store: Path, record: SegmentRecord) -> NDArray[np.bool_]:
    """bool [passages]: which rows of a segment are deleted.

    Raises:
        DataLoss: the bitmap is not what was written. All of it is checked, as a wrong bit would hide a passage, or show
            one that was deleted.
    """
    if record.deletions is None:
        return np.zeros(record.passages, bool)
    return np.unpackbits(_read_bits(store, record, record.deletions), count=record.passages, bitorder="little").view(
        bool
    )


def read_live(store: Path, record: SegmentRecord) -> Survivors:
    """The rows of a segment that are not deleted. DataLoss as `read_deleted`."""
    return Survivors(record.passages, np.packbits(~read_deleted(store, record), bitorder="little"))


def _read_bits(store: Path, record: SegmentRecord, deletions: Deletions) -> NDArray[np.uint8]:
    path = store / deletions.file.path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
    bits = np.frombuffer(data, np.uint8)
    if hash_bytes(data) != deletions.file.xxh3_128:
        raise DataLoss(f"{path} is damaged: its checksum is not {deletions.file.xxh3_128}", mend=MEND)
    seen = (len(bits), int(np.bitwise_count(bits).sum(dtype=np.int64)))
    if seen != (wanted := (-(-record.passages // 8), deletions.passages)):
        raise DataLoss(f"{path} has (bytes, bits set) {seen}; the manifest says {wanted}", mend=MEND)
    return bits
