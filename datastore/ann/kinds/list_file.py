"""The file of a segment's codes, list by list: what the kinds with lists in memory share (docs/FORMAT.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datastore.ann.spec import IndexSpec


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
