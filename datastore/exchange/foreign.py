"""Passages with embeddings in the files of others: batches of both, in step.

* our own export, or any Parquet with the columns text and vector
* JSON Lines of passages beside arrays of embeddings, `.npy` or `.pkl` (MassiveDS, CompactDS), file by file
* JSON Lines of passages beside one FAISS index, whose row is the passage's line

Passages and vectors are joined by the ids that the embeddings have with them, or by their number in files of the same
number of both: never by what comes out, so that one line more or less is an error and no shift.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from datastore.documents import Passage
from datastore.encoders.fingerprint import EncoderFingerprint
from datastore.errors import InvalidArgument
from datastore.exchange.export import METADATA
from datastore.exchange.passages import bad, name_of, passage_of
from datastore.exchange.restricted_pickle import read_arrays

BATCH = 512

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Batch:
    """Passages, and a vector for each, float32 [len(passages), dimension]."""

    passages: list[Passage]
    vectors: Vectors


def from_parquet(files: Sequence[Path]) -> Iterator[Batch]:
    """Rows of Parquet files; what our export has not is an attribute."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in files:
        try:
            table = pq.ParquetFile(file)
        except (OSError, pa.ArrowException) as error:
            raise bad(file, f"it cannot be read: {error}") from None
        missing = {"text", "vector"} - set(table.schema_arrow.names)
        if missing:
            raise bad(file, f"it has no column {sorted(missing)[0]!r}, but {', '.join(table.schema_arrow.names)}")
        number = 0
        try:
            for part in table.iter_batches(BATCH):
                if part.num_rows:
                    vectors = _vectors(part.column("vector"), file, number)
                    rows = part.drop_columns(["vector"]).to_pylist()
                    yield Batch([passage_of(row, file, at) for at, row in enumerate(rows, number)], vectors)
                number += part.num_rows
        except (OSError, ValueError, pa.ArrowException) as error:
            raise bad(file, f"rows from {number} on cannot be read: {error}") from None


def _vectors(column: Any, file: Path, number: int) -> Vectors:
    """float32 [rows, dimension] of a column of lists, whose first row has this number."""
    import pyarrow as pa

    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise bad(file, f"its column 'vector' is of {kind}; wanted lists of numbers")
    if column.null_count:
        raise bad(file, f"a row after {number} has no vector")
    if not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise bad(file, f"its vectors are of {kind.value_type}; wanted numbers")
    lengths = set(column.value_lengths().to_pylist())
    if len(lengths) != 1:
        raise bad(file, f"its vectors have different lengths, {min(lengths)} to {max(lengths)}")
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False), np.float32).reshape(len(column), -1)


def encoder_of_parquet(file: Path) -> EncoderFingerprint | None:
    """The fingerprint that our export has put into a file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(file).metadata or {}
        if METADATA not in metadata:
            return None
        return TypeAdapter(EncoderFingerprint).validate_python(json.loads(metadata[METADATA])["encoder"])
    except (OSError, pa.ArrowException) as error:
        raise bad(file, f"it cannot be read: {error}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise bad(file, f"what it says of its encoder cannot be read: {error}") from None


def from_embeddings(passages: Sequence[Path], embeddings: Sequence[Path]) -> Iterator[Batch]:
    """Lines of each file of passages with the rows of the file of embeddings in the same place."""
    if len(passages) != len(embeddings):
        raise InvalidArgument(
            f"there are {len(passages)} files of passages and {len(embeddings)} of embeddings; wanted one for each",
            mend="name them in the same order",
            field="embeddings",
        )
    for lines, file in zip(passages, embeddings, strict=True):
        ids, vectors = _embeddings(file)
        by_id = None if ids is None else {str(one): row for row, one in enumerate(ids)}
        if by_id is not None and len(by_id) != len(vectors):
            raise bad(file, f"it has {len(vectors)} vectors under {len(by_id)} different ids")
        prefix = f"{lines.stem}/" if len(passages) > 1 else ""
        count = 0
        for numbers, records in _numbered(lines):
            rows = np.array([_row(by_id, *pair, file) for pair in zip(numbers, records, strict=True)])
            if rows.max() >= len(vectors):
                raise bad(file, f"it has {len(vectors)} vectors; {lines} has more passages")
            found = [passage_of(record, lines, number, prefix) for number, record in zip(numbers, records, strict=True)]
            yield Batch(found, np.asarray(vectors[rows], np.float32))
            count += len(records)
        if count != len(vectors):
            raise bad(file, f"it has {len(vectors)} vectors; {lines} has {count} passages")


def _row(by_id: Mapping[str, int] | None, number: int, record: Mapping[str, Any], file: Path) -> int:
    if by_id is None:
        return number
    name = name_of(record)
    if name is None or name not in by_id:
        raise bad(file, f"it has no vector for the passage with the id {name!r} (record {number})")
    return by_id[name]


def _embeddings(file: Path) -> tuple[Sequence[Any] | None, NDArray[Any]]:
    """(ids, if it has them; vectors [n, dimension])."""
    ids: Sequence[Any] | None = None
    if file.suffix == ".npy":
        try:
            vectors = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise bad(file, f"it cannot be read: {error}") from None
    elif file.suffix in (".pkl", ".pickle"):
        value = read_arrays(file)
        if isinstance(value, np.ndarray):
            vectors = value
        elif isinstance(value, list | tuple) and len(value) == 2:
            ids, vectors = value
        else:
            raise bad(file, "it holds neither an array nor ids and an array")
    else:
        raise bad(file, f"it ends in {file.suffix!r}; wanted .npy or .pkl")
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise bad(file, "its embeddings are no array of floats with two dimensions")
    if ids is not None and not _are_ids(ids):
        raise bad(file, "its ids are no list of texts or integers")
    if ids is not None and len(ids) != len(vectors):
        raise bad(file, f"it has {len(ids)} ids and {len(vectors)} vectors")
    return ids, vectors


def _are_ids(ids: Any) -> bool:
    if isinstance(ids, np.ndarray):
        return ids.ndim == 1 and ids.dtype.kind in "iuU"
    return isinstance(ids, list | tuple) and all(isinstance(one, str | int | np.integer | np.str_) for one in ids)


def from_faiss(index: Path, passages: Sequence[Path]) -> Iterator[Batch]:
    """Lines of the files, one after another, with the rows of a FAISS index: of codes, what they decode to."""
    from datastore.ann.kinds.library import StoredVectors

    vectors = StoredVectors(index)
    start = 0
    for lines in passages:
        prefix = f"{lines.stem}/" if len(passages) > 1 else ""
        for numbers, records in _numbered(lines):
            if start + len(records) > vectors.count:
                raise bad(index, f"it has {vectors.count} vectors; there are more passages")
            found = [passage_of(record, lines, number, prefix) for number, record in zip(numbers, records, strict=True)]
            yield Batch(found, vectors.read(start, start + len(records)))
            start += len(records)
    if start != vectors.count:
        raise bad(index, f"it has {vectors.count} vectors; there are {start} passages")


def _numbered(file: Path) -> Iterator[tuple[list[int], list[Mapping[str, Any]]]]:
    """(numbers, records) of the lines of a file, plain, .gz or .zst, that are not blank."""
    import gzip

    import zstandard

    opened: Callable[..., Any] = open
    if file.suffix in (".gz", ".zst"):
        opened = gzip.open if file.suffix == ".gz" else zstandard.open
    numbers: list[int] = []
    records: list[Mapping[str, Any]] = []
    number = 0
    try:
        with opened(file, "rb") as lines:
            for line in lines:
                if not line.strip():
                    continue
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise bad(file, f"record {number} is no JSON object")
                numbers.append(number)
                records.append(record)
                number += 1
                if len(records) == BATCH:
                    yield numbers, records
                    numbers, records = [], []
    except (OSError, EOFError, ValueError, zstandard.ZstdError) as error:
        raise bad(file, f"record {number} cannot be read: {error}") from None
    if records:
        yield numbers, records
