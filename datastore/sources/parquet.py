"""Parquet and Arrow files: one document a row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from datastore.config import InputConfig
from datastore.sources.found import Found, Piece, whole
from datastore.sources.places import open_bytes, unreadable
from datastore.sources.rejects import RefusedError, Rejects
from datastore.sources.tables import ROWS_AT_ONCE, read_batches, require_column

_BATCH_BYTES = 64 << 20
_BOMB_BYTES, _BOMB_RATIO = 1 << 30, 1000
"""A column larger than the one, and compressed by more than the other, is a trap: text shrinks to a tenth."""


class ParquetFiles:
    """Files of rows, in pieces of whole row groups. Columns are the fields of `document_of`; columns that are not text,
    id, title or source become attributes, lists and structs as their JSON text, dates in ISO 8601, bytes not at all."""

    def pieces(self, whole: Piece, target_bytes: int) -> Iterator[Piece]:
        try:
            with open_bytes(whole.location) as stream:
                metadata = _metadata(stream)
        except OSError as error:
            raise unreadable(whole.location, error) from error
        except RefusedError:  # reading says so
            yield whole
            return
        start, first, rows, size = 0, 1, 0, 0
        for group in range(metadata.num_row_groups):
            details = metadata.row_group(group)
            rows += details.num_rows
            size += details.total_byte_size
            if size >= target_bytes or group == metadata.num_row_groups - 1:
                yield replace(whole, start=start, stop=group + 1, first=first, size=size)
                start, first, rows, size = group + 1, first + rows, 0, 0
        if metadata.num_row_groups == 0:
            yield whole

    def read(self, piece: Piece, rejects: Rejects, config: InputConfig) -> Iterator[Found]:
        import pyarrow.parquet

        number = piece.first
        try:
            with open_bytes(piece.location) as stream, _damage(piece, rejects, number):
                file = pyarrow.parquet.ParquetFile(stream, pre_buffer=False)
                require_column(file.schema_arrow.names, piece, config)
                groups = range(piece.start, file.num_row_groups if piece.stop is None else piece.stop)
                rows = [file.metadata.row_group(group).num_rows for group in groups]
                for group, count in zip(groups, rows, strict=True):
                    # Damage to one row group leaves the others readable.
                    with _damage(piece, rejects, number):
                        details = file.metadata.row_group(group)
                        _refuse_bomb(details, group)
                        batches = file.iter_batches(_rows_at_once(details), row_groups=[group], use_threads=False)
                        yield from read_batches(batches, number, piece, rejects, config)
                    number += count
        except OSError as error:
            raise unreadable(piece.location, error) from error


@contextmanager
def _damage(piece: Piece, rejects: Rejects, row: int) -> Iterator[None]:
    """Rejects what Arrow cannot read. Raises OSError of files that are not there (any more)."""
    import pyarrow

    try:
        yield
    except RefusedError as refused:
        rejects.add(piece.location, row, refused)
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError, KeyError, TypeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        # Arrow's own complaints of pages that it cannot read are OSErrors too, without a number.
        rejects.add(piece.location, row, RefusedError("damaged file", f"in or after row {row}: {error}"))


def _metadata(stream: Any) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_metadata(stream)
    except (pyarrow.ArrowException, ValueError, MemoryError) as error:
        raise RefusedError("damaged file", f"not Parquet: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise RefusedError("damaged file", f"not Parquet: {error}") from error


def _refuse_bomb(group: Any, number: int) -> None:
    for column in (group.column(index) for index in range(group.num_columns)):
        size = column.total_uncompressed_size
        if size > max(_BOMB_BYTES, _BOMB_RATIO * column.total_compressed_size):
            where = f"column {column.path_in_schema!r} of row group {number}"
            raise RefusedError("too large", f"{where} grows from {column.total_compressed_size} bytes to {size}")


def _rows_at_once(group: Any) -> int:
    """As many as take 64 MiB, if rows are alike."""
    return int(max(1, min(ROWS_AT_ONCE, _BATCH_BYTES * group.num_rows // max(1, group.total_byte_size))))


class ArrowFiles:
    """Arrow files and streams, as `save_to_disk` of Hugging Face datasets writes them; rows as in `ParquetFiles`."""

    pieces = staticmethod(whole)

    def read(self, piece: Piece, rejects: Rejects, config: InputConfig) -> Iterator[Found]:
        number = piece.first
        try:
            with open_bytes(piece.location) as stream, _damage(piece, rejects, number):
                reader = _open_arrow(stream)
                require_column(reader.schema.names, piece, config)
                for batch in _batches(reader):
                    batch.validate(full=True)
                    yield from read_batches([batch], number, piece, rejects, config)
                    number += batch.num_rows
        except OSError as error:
            raise unreadable(piece.location, error) from error


def _open_arrow(stream: Any) -> Any:
    import pyarrow.ipc

    magic = stream.read(6)
    stream.seek(0)
    return pyarrow.ipc.open_file(stream) if magic == b"ARROW1" else pyarrow.ipc.open_stream(stream)


def _batches(reader: Any) -> Iterator[Any]:
    count = getattr(reader, "num_record_batches", None)
    if count is None:
        yield from reader
    else:
        yield from (reader.get_batch(number) for number in range(count))
