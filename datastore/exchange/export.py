"""A datastore's passages and exact vectors as Parquet: a file for each segment, rows in order, without deleted ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
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
_UNFINISHED = ".tmp"
_OURS = re.compile(r"\d{8}(-\d{6})+\.parquet(\.tmp)?")

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
    Memory does not grow with the datastore. Files get their names when all of them are whole: an export that fails
    leaves none, and what one that was killed leaves is written anew.

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
    with closing(StoreReader(store)) as reader, storage_errors(folder), _unfinished(folder) as written:
        done = 0
        for segment in reader.segments:
            if len(segment.live.rows):
                written.append(folder / f"{segment.segment_id}.parquet{_UNFINISHED}")
                for count in _write(written[-1], segment, reader.manifest, vectors):
                    done += count
                    on_progress(done, reader.manifest.passages)
        files = [path.with_suffix("") for path in written]
        for path, file in zip(written, files, strict=True):
            path.replace(file)
        fsync_path(folder)
    return ExportReport(
        reader.manifest.generation, done, tuple(path.name for path in files), sum(path.stat().st_size for path in files)
    )


@contextmanager
def _unfinished(folder: Path) -> Iterator[list[Path]]:
    """A folder for an export, and its files so far, which go where it fails."""
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    interrupted = all(_OURS.fullmatch(name) for name in names) and any(name.endswith(_UNFINISHED) for name in names)
    if names and not interrupted:
        raise AlreadyExists(f"{folder} is not empty", mend="export into a new folder", field="out")
    for name in names:
        (folder / name).unlink()
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    try:
        yield written
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
            path.with_suffix("").unlink(missing_ok=True)
        raise


def _write(path: Path, segment: Segment, manifest: Manifest, vectors: VectorType) -> Iterator[int]:
    """Yields the rows of each batch written; then the file is on the device."""
    import pyarrow.parquet as pq

    rows = segment.live.rows
    schema = _schema(manifest, vectors)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            writer.write_table(_table(segment, batch, schema))
            yield len(batch)
    fsync_path(path)


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
