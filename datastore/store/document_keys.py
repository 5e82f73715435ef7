"""What a segment's documents are recognized by: digests of their texts, and band keys by which similar ones meet.

docs/FORMAT.md specifies the file, `signatures.keys`. It is written where duplicates are left out, so that additions
find what the datastore has: keys lie sorted, each with the first row of its document, and are looked up where they lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datastore.errors import DataLoss
from datastore.store.checksums import MEND, unreadable
from datastore.store.manifest import SegmentRecord
from datastore.store.segment import KEYS, SEGMENTS_FOLDER, part_files

_COUNTS = np.dtype([("documents", "<u8"), ("digests", "<u4"), ("bands", "<u4")])

Keys = NDArray[np.uint64]
Rows = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class DocumentKeys:
    """Of some documents of a segment, in memory; aligned arrays, in the order of their rows."""

    rows: Rows
    """[documents]: the first of each."""
    digests: Keys
    """[documents, 2]: the first and the last 8 bytes of the digest; [documents, 0] without exact duplicates."""
    bands: Keys
    """[documents, bands]; 0 for texts without words."""

    def kept(self, new_rows: NDArray[np.int64]) -> DocumentKeys:
        """Those of documents that stay, by the rows that they have then; -1 for a row that goes."""
        rows = new_rows[self.rows]
        stays = rows >= 0
        return DocumentKeys(rows[stays].astype(np.uint32), self.digests[stays], self.bands[stays])

    def write(self, path: Path) -> None:
        """Sort all keys, and write the file."""
        columns = [*([self.digests] if self.digests.size else []), *(band[:, None] for band in self.bands.T)]
        orders = [np.lexsort(column.T[::-1]) for column in columns]
        counts = np.array((len(self.rows), self.digests.size > 0, self.bands.shape[1]), _COUNTS)
        with path.open("wb") as file:
            file.write(counts.tobytes())
            for column, order in zip(columns, orders, strict=True):
                file.write(np.ascontiguousarray(column[order].T, "<u8").tobytes())
            for order in orders:
                file.write(self.rows[order].astype("<u4").tobytes())


def joined(parts: Sequence[DocumentKeys]) -> DocumentKeys:
    """Of all documents of the parts, whose rows follow one another."""
    return DocumentKeys(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.digests for part in parts]),
        np.concatenate([part.bands for part in parts]),
    )


class SortedKeys:
    """The file of a segment, mapped.

    Raises:
        DataLoss: it has another size than its counts say, or is of other documents than the manifest says.
    """

    def __init__(self, store: Path, record: SegmentRecord) -> None:
        self.path = store / SEGMENTS_FOLDER / record.segment_id / KEYS
        try:
            size = self.path.stat().st_size
            counts = np.fromfile(self.path, _COUNTS, 1)
        except OSError as error:
            raise unreadable(self.path, error) from None
        documents, self.exact, self.bands = (int(value) for value in counts[0]) if len(counts) else (0, 0, 0)
        longs, words = (2 * self.exact + self.bands, documents), (self.exact + self.bands, documents)
        wanted = _COUNTS.itemsize + 8 * longs[0] * documents + 4 * words[0] * documents
        if documents != record.documents or size != wanted:
            raise DataLoss(
                f"{self.path} has {size} bytes, of {documents} documents; {wanted} bytes and {record.documents} "
                "documents were wanted",
                mend=MEND,
            )
        start = _COUNTS.itemsize
        self._keys = np.memmap(self.path, "<u8", "r", start, longs) if longs[0] else np.empty(longs, np.uint64)
        start += self._keys.nbytes
        self._rows = np.memmap(self.path, "<u4", "r", start, words) if words[0] else np.empty(words, np.uint32)

    def digests(self) -> tuple[Keys, Keys, Rows]:
        """First halves of the digests, ascending, their second halves, and first rows; only where `exact`."""
        return self._keys[0], self._keys[1], self._rows[0]

    def band(self, band: int) -> tuple[Keys, Rows]:
        """Keys of one band, ascending, and first rows."""
        return self._keys[2 * self.exact + band], self._rows[self.exact + band]

    def document_keys(self) -> DocumentKeys:
        """All of it, by row."""
        orders = [np.argsort(rows, kind="stable") for rows in self._rows]
        rows = np.asarray(self._rows[0][orders[0]]) if orders else np.empty(0, np.uint32)
        digests = np.empty((len(rows), 2 * self.exact), np.uint64)
        for half in range(2 * self.exact):
            digests[:, half] = self._keys[half][orders[0]]
        bands = np.empty((len(rows), self.bands), np.uint64)
        for band in range(self.bands):
            bands[:, band] = self.band(band)[0][orders[self.exact + band]]
        return DocumentKeys(rows, digests, bands)


def has_keys(record: SegmentRecord) -> bool:
    """Whether a sealed segment has the file."""
    return bool(part_files(record, KEYS))
