"""A datastore's passages and exact vectors as Parquet: a file for each segment, rows in order, without deleted ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from datastore.errors import AlreadyExists, InvalidArgument
from datastore.store.durable import fsync_path
from datastore.store.manifest import Manifest
from datastore.store.reader import Segment, StoreReader
from datastore.store.refusals import refuse_url, storage_errors

VectorType = Literal["float32", "float16", "none"]
METADATA = b"pergamon"
"""Key of the file's metadata: a JSON object with datastore_id, generation, metric and encoder."""
_BATCH = 4096

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written."""

    generation: int
    passages: int
    files: tuple[str, ...]
    bytes: int


def export(
    store: Path,
    folder: Path,
    *,
    vectors: VectorType = "float32",
    on_progress: OnProgress = lambda done, total: None,
) -> ExportReport:
    """Write every passage that can be found, with its vector, into new Parquet files in `folder`.

    Columns: document_id, chunk_index, title, text, source, start, end, attributes (a JSON object, as text), and vector,
    a list of fixed size. float32 is read everywhere and holds the stored float16 exactly; float16 takes half of it.
    Memory does not grow with the datastore.

    Raises:
        AlreadyExists: the folder is not empty.
        NotFound, FailedPrecondition, DataLoss: the store cannot be read.
        ResourceExhausted, InvalidArgument: the folder cannot be written.
    """
    if vectors not in get_args(VectorType):
        raise InvalidArgument(
            f"vectors is {vectors!r}; wanted one of {', '.join(get_args(VectorType))}",
            mend="pass one of those",
            field="vectors",
        )
    refuse_url(folder, "out")
    if folder.resolve().is_relative_to(store.resolve()):
        raise InvalidArgument(f"{folder} lies in the store {store}", mend="choose a folder outside of it", field="out")
    if folder.exists() and any(folder.iterdir()):
        raise AlreadyExists(f"{folder} is not empty", mend="export into a new folder", field="out")
    with closing(StoreReader(store)) as reader, storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        files, done = [], 0
        for segment in reader.segments:
            path = folder / f"{segment.segment_id}.parquet"
            for count in _write(path, segment, reader.manifest, vectors):
                done += count
                on_progress(done, reader.manifest.passages)
            if path.exists():
                files.append(path)
        fsync_path(folder)
    return ExportReport(
        reader.manifest.generation, done, tuple(path.name for path in files), sum(path.stat().st_size for path in files)
    )


def _write(path: Path, segment: Segment, manifest: Manifest, vectors: VectorType) -> Iterator[int]:
    """Yields the rows of each batch written. A file that is there is whole."""
    import pyarrow.parquet as pq

    rows = segment.live.rows
    if not len(rows):
        return
    schema = _schema(manifest, vectors)
    temporary = path.with_name(path.name + ".tmp")
    with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            writer.write_table(_table(segment, batch, schema))
            yield len(batch)
    fsync_path(temporary)
    temporary.replace(path)


def _schema(manifest: Manifest, vectors: VectorType) -> Any:
    import pyarrow as pa

    about = {
        "datastore_id": manifest.datastore_id,
        "generation": manifest.generation,
        "metric": manifest.metric,
        "encoder": asdict(manifest.encoder),
    }
    fields = [
        ("document_id", pa.string()),
        ("chunk_index", pa.int32()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("source", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("attributes", pa.string()),
    ]
    if vectors != "none":
        value = pa.float16() if vectors == "float16" else pa.float32()
        fields.append(("vector", pa.list_(pa.field("element", value, nullable=False), manifest.encoder.dimension)))
    return pa.schema(fields, metadata={METADATA: json.dumps(about).encode()})


def _table(segment: Segment, rows: Any, schema: Any) -> Any:
    import pyarrow as pa

    passages = segment.passages.get(rows.tolist())
    columns: list[Any] = [
        [passage.document_id for passage in passages],
        [passage.chunk_index for passage in passages],
        [passage.title for passage in passages],
        [passage.text for passage in passages],
        [passage.source for passage in passages],
        [passage.start for passage in passages],
        [passage.end for passage in passages],
        [json.dumps(dict(passage.attributes), ensure_ascii=False) for passage in passages],
    ]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=False)]
    if "vector" in schema.names:
        kind = schema.field("vector").type
        stored = segment.vectors.read(rows)
        flat = stored.astype(np.float16 if kind.value_type == pa.float16() else np.float32).reshape(-1)
        arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(flat, kind.value_type), type=kind))
    return pa.Table.from_arrays(arrays, schema=schema)
