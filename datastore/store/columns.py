"""Row-aligned columns of a segment: stable names and attributes, in one Arrow IPC file, memory-mapped.

Columns `document_id` (string), `chunk_index` (int32), `source` (string), then one per attribute, named
`attribute.NAME`: bool, int64, double or string by the values seen in the segment. Integers and floats together become
double, where that is exact. Integers beyond 64 bits and other mixtures become strings, as Python writes the values, and
a bool column `is_string.NAME` says which of them were strings before. A passage without the attribute has null.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from datastore.documents import AttributeValue, Passage, PassageName
from datastore.errors import DataLoss
from datastore.store.checksums import MEND, unreadable

ATTRIBUTE_PREFIX = "attribute."
IS_STRING_PREFIX = "is_string."
_INT64 = range(-(1 << 63), 1 << 63)
_EXACT_IN_DOUBLE = range(-(1 << 53), (1 << 53) + 1)


class ColumnsWriter:
    """Collects the columns of one segment; memory is that segment's names and attributes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: list[PassageName] = []
        self._sources: list[str] = []
        self._attributes: dict[str, dict[int, AttributeValue]] = {}

    def add(self, passages: Sequence[Passage]) -> None:
        for passage in passages:
            row = len(self._names)
            self._names.append(passage.name)
            self._sources.append(passage.source)
            for key, value in passage.attributes.items():
                self._attributes.setdefault(key, {})[row] = value

    def close(self) -> None:
        """Write the file."""
        rows = len(self._names)
        columns: dict[str, pa.Array] = {
            "document_id": pa.array([name.document_id for name in self._names], pa.large_string()),
            "chunk_index": pa.array([name.chunk_index for name in self._names], pa.int32()),
            "source": pa.array(self._sources, pa.large_string()).dictionary_encode(),
        }
        for key in sorted(self._attributes):
            column = columns[ATTRIBUTE_PREFIX + key] = _attribute_column(self._attributes[key], rows)
            if column.type == pa.large_string():
                is_string = {row: isinstance(value, str) for row, value in self._attributes[key].items()}
                if not all(is_string.values()):
                    columns[IS_STRING_PREFIX + key] = pa.array(map(is_string.get, range(rows)), pa.bool_())
        table = pa.table(columns)
        with pa.OSFile(str(self._path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)


def _attribute_column(values: dict[int, AttributeValue], rows: int) -> pa.Array:
    kinds = {type(value) for value in values.values()}
    integers = [value for value in values.values() if isinstance(value, int)]
    if kinds == {bool}:
        kind = pa.bool_()
    elif kinds == {int} and all(value in _INT64 for value in integers):
        kind = pa.int64()
    elif kinds == {float} or (kinds == {int, float} and all(value in _EXACT_IN_DOUBLE for value in integers)):
        kind = pa.float64()
    else:
        kind = pa.large_string()
        values = {row: str(value) for row, value in values.items()}
    return pa.array([values.get(row) for row in range(rows)], kind)


class Columns:
    """The columns of one segment; thread-safe."""

    def __init__(self, path: Path, rows: int) -> None:
        try:
            self._source = pa.memory_map(str(path), "r")
            self.table: pa.Table = pa.ipc.open_file(self._source).read_all()
            ids = self.table.column("document_id").combine_chunks()
            _, offsets, text = ids.buffers()
            self._offsets = np.frombuffer(offsets or b"", np.int64)[ids.offset :]
            self._text = memoryview(text or b"")
            self._chunk_indexes = self.table.column("chunk_index").to_numpy()
        except (OSError, pa.ArrowException, KeyError) as error:
            raise unreadable(path, error) from None
        if self.table.num_rows != rows:
            raise DataLoss(
                f"{path} has {self.table.num_rows} rows; the manifest says {rows}",
                mend=MEND,
            )

    def names(self, rows: NDArray[np.int64]) -> list[PassageName]:
        """Stable names of the passages at `rows`, in that order."""
        # Straight from Arrow's buffers: a query reads hundreds of names, which through Arrow's own way costs more than
        # the search.
        text = self._text
        places = zip(self._offsets[rows].tolist(), self._offsets[rows + 1].tolist(), strict=True)
        ids = [str(text[start:end], "utf-8") for start, end in places]
        return list(map(PassageName, ids, self._chunk_indexes[rows].tolist()))

    def document_numbers(self) -> NDArray[np.int64]:
        """int64 [rows]: which document of the segment each passage is of, from 0."""
        numbers: NDArray[np.int64] = np.cumsum(self._chunk_indexes == 0) - 1
        return numbers

    def first_rows(self) -> NDArray[np.int64]:
        """int64 [documents]: where the passages of each begin."""
        return np.flatnonzero(self._chunk_indexes == 0)

    def close(self) -> None:
        # Arrays handed out may still view the map; it goes with the last of them.
        self.table = self.table.schema.empty_table()
        self._offsets, self._text = np.zeros(1, np.int64), memoryview(b"")
        self._chunk_indexes = np.empty(0, np.int32)
        self._source.close()
