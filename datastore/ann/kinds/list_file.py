"""The file of a segment's codes, list by list: what the kinds with lists in memory share (docs/FORMAT.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datastore.ann.kinds.library import MEND
from datastore.ann.spec import IndexSpec
from datastore.errors import DataLoss


@dataclass(frozen=True, slots=True)
class Entries:
    """Codes of passages, one for each copy: aligned arrays."""

    lists: NDArray[np.int64]
    rows: NDArray[np.int64]
    codes: NDArray[np.uint8]
    """[entries, code_bytes]."""

    def write(self, path: Path, spec: IndexSpec) -> None:
        """List by list, each by row: lengths of the lists, rows, codes."""
        order = np.lexsort((self.rows, self.lists))
        with path.open("wb") as file:
            file.write(np.bincount(self.lists, minlength=spec.nlist).astype("<u4").tobytes())
            file.write(self.rows[order].astype("<u4").tobytes())
            file.write(self.codes[order].tobytes())

    @classmethod
    def read(cls, path: Path, spec: IndexSpec, passages: int) -> Entries:
        entries = spec.copies * passages
        wanted = 4 * spec.nlist + entries * (4 + spec.code_bytes)
        try:
            data = np.fromfile(path, np.uint8)
        except OSError as error:
            raise DataLoss(f"{path} cannot be read: {error.strerror}", mend=MEND) from None
        if len(data) != wanted:
            raise DataLoss(
                f"{path} has {len(data)} bytes; {entries} codes of {spec.code_bytes} bytes in {spec.nlist} lists "
                f"need {wanted}",
                mend=MEND,
            )
        lengths = data[: 4 * spec.nlist].view("<u4").astype(np.int64)
        rows = data[4 * spec.nlist : 4 * (spec.nlist + entries)].view("<u4").astype(np.int64)
        if lengths.sum() != entries or (entries and rows.max() >= passages):
            raise DataLoss(
                f"{path} has lists of {lengths.sum()} codes together, and rows up to {rows.max(initial=0)}; "
                f"wanted {entries} codes of rows below {passages}",
                mend=MEND,
            )
        codes = data[4 * (spec.nlist + entries) :].reshape(entries, spec.code_bytes)
        return cls(np.repeat(np.arange(spec.nlist), lengths), rows, codes)


def join(parts: Sequence[Entries], bases: NDArray[np.int64], spec: IndexSpec) -> Entries:
    """The entries of several segments, list by list; rows count on from segment to segment."""
    if not parts:
        return Entries(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, spec.code_bytes), np.uint8))
    lists = np.concatenate([part.lists for part in parts])
    order = np.argsort(lists, kind="stable")
    rows = np.concatenate([part.rows + base for part, base in zip(parts, bases, strict=False)])
    return Entries(lists[order], rows[order], np.concatenate([part.codes for part in parts])[order])
