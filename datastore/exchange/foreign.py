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

from datastore.documents import AttributeValue, Passage
from datastore.errors import InvalidArgument
from datastore.exchange.export import METADATA
from datastore.exchange.restricted_pickle import read_arrays

BATCH = 512
_IDS = ("_id", "id", "document_id", "passage_id")
_OWN = frozenset({*_IDS, "text", "contents", "title", "source", "chunk_index", "start", "end", "attributes", "vector"})

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
            raise _bad(file, f"it cannot be read: {error}") from None
        missing = {"text", "vector"} - set(table.schema_arrow.names)
        if missing:
            raise _bad(file, f"it has no column {sorted(missing)[0]!r}, but {', '.join(table.schema_arrow.names)}")
        number = 0
        for part in table.iter_batches(BATCH):
            column = part.column("vector")
            if column.null_count:
                raise _bad(file, f"a row after {number} has no vector")
            values = np.asarray(column.flatten().to_numpy(zero_copy_only=False), np.float32)
            rows = part.drop_columns(["vector"]).to_pylist()
            if len(values) % len(rows):
                raise _bad(file, "its vectors have different lengths")
            passages = [_passage(row, file, number + place) for place, row in enumerate(rows)]
            number += len(rows)
            yield Batch(passages, values.reshape(len(rows), -1))


def encoder_of_parquet(file: Path) -> Mapping[str, Any] | None:
    """The fingerprint that our export has put into a file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(file).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise _bad(file, f"it cannot be read: {error}") from None
    return json.loads(metadata[METADATA])["encoder"] if METADATA in metadata else None


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
            raise _bad(file, f"it has {len(vectors)} vectors under {len(by_id)} different ids")
        prefix = f"{lines.stem}/" if len(passages) > 1 else ""
        count = 0
        for numbers, records in _numbered(lines):
            rows = np.array([_row(by_id, *pair, file) for pair in zip(numbers, records, strict=True)])
            if rows.max() >= len(vectors):
                raise _bad(file, f"it has {len(vectors)} vectors; {lines} has more passages")
            found = [_passage(record, lines, number, prefix) for number, record in zip(numbers, records, strict=True)]
            yield Batch(found, np.asarray(vectors[rows], np.float32))
            count += len(records)
        if count != len(vectors):
            raise _bad(file, f"it has {len(vectors)} vectors; {lines} has {count} passages")


def _row(by_id: Mapping[str, int] | None, number: int, record: Mapping[str, Any], file: Path) -> int:
    if by_id is None:
        return number
    name = _id(record)
    if name is None or name not in by_id:
        raise _bad(file, f"it has no vector for the passage with the id {name!r} (record {number})")
    return by_id[name]


def _embeddings(file: Path) -> tuple[Sequence[Any] | None, NDArray[Any]]:
    """(ids, if it has them; vectors [n, dimension])."""
    ids: Sequence[Any] | None = None
    if file.suffix == ".npy":
        try:
            vectors = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise _bad(file, f"it cannot be read: {error}") from None
    elif file.suffix in (".pkl", ".pickle"):
        value = read_arrays(file)
        if isinstance(value, np.ndarray):
            vectors = value
        elif isinstance(value, list | tuple) and len(value) == 2:
            ids, vectors = value
        else:
            raise _bad(file, "it holds neither an array nor ids and an array")
    else:
        raise _bad(file, f"it ends in {file.suffix!r}; wanted .npy or .pkl")
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise _bad(file, "its embeddings are no array of floats with two dimensions")
    if ids is not None and len(ids) != len(vectors):
        raise _bad(file, f"it has {len(ids)} ids and {len(vectors)} vectors")
    return ids, vectors


def from_faiss(index: Path, passages: Sequence[Path]) -> Iterator[Batch]:
    """Lines of the files, one after another, with the rows of a FAISS index: of codes, what they decode to."""
    from datastore.ann.kinds.library import StoredVectors

    vectors = StoredVectors(index)
    start = 0
    for lines in passages:
        prefix = f"{lines.stem}/" if len(passages) > 1 else ""
        for numbers, records in _numbered(lines):
            if start + len(records) > vectors.count:
                raise _bad(index, f"it has {vectors.count} vectors; there are more passages")
            found = [_passage(record, lines, number, prefix) for number, record in zip(numbers, records, strict=True)]
            yield Batch(found, vectors.read(start, start + len(records)))
            start += len(records)
    if start != vectors.count:
        raise _bad(index, f"it has {vectors.count} vectors; there are {start} passages")


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
                    raise _bad(file, f"record {number} is no JSON object")
                numbers.append(number)
                records.append(record)
                number += 1
                if len(records) == BATCH:
                    yield numbers, records
                    numbers, records = [], []
    except (OSError, EOFError, ValueError, zstandard.ZstdError) as error:
        raise _bad(file, f"record {number} cannot be read: {error}") from None
    if records:
        yield numbers, records


def _id(record: Mapping[str, Any]) -> str | None:
    return next((str(record[key]) for key in _IDS if record.get(key) is not None), None)


def _passage(record: Mapping[str, Any], file: Path, number: int, prefix: str = "") -> Passage:
    text = record.get("text", record.get("contents"))
    if not isinstance(text, str):
        raise _bad(file, f"record {number} has no text")
    name = _id(record)
    attributes: dict[str, AttributeValue] = {}
    stored = record.get("attributes")
    given = json.loads(stored) if isinstance(stored, str) else stored or {}
    for key, value in {**{k: v for k, v in record.items() if k not in _OWN}, **given}.items():
        if isinstance(value, str | int | float | bool):
            attributes[key] = value
        elif value is not None:
            attributes[key] = json.dumps(value, ensure_ascii=False)
    return Passage(
        document_id=prefix + (f"{number}" if name is None else name),
        chunk_index=int(record.get("chunk_index") or 0),
        text=text,
        title=str(record.get("title") or ""),
        source=str(record.get("source") or file.name),
        start=int(record.get("start") or 0),
        end=int(record.get("end") or len(text)),
        attributes=attributes,
    )


def _bad(file: Path, why: str) -> InvalidArgument:
    return InvalidArgument(f"{file}: {why}", mend="check that it belongs to the others, and is whole", field="input")
