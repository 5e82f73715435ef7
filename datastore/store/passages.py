"""Passages of a segment in RocksDB: the only file that knows its binding.

Keys and values are bytes (raw mode; nothing is unpickled):

* `p` + row (8 bytes, big-endian) -> the passage as UTF-8 JSON
* `d` + document id (UTF-8) -> first row (8 bytes, big-endian) + number of passages (4 bytes, big-endian)

A document's passages are neighbours, in order, so one entry finds them all.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from datastore.documents import Passage, PassageName
from datastore.errors import DataLoss, ResourceExhausted
from datastore.store.checksums import MEND
from datastore.store.refusals import exhausted

_BLOCK_BYTES = 16 << 10
_WRITE_BUFFER_BYTES = 32 << 20
_BINDING_NOTE = "rocksdict-config.json"
_SALVAGED_TOGETHER = 256
_RUN = struct.Struct(">QI")


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_compression_type(DBCompressionType.zstd())
    table = BlockBasedOptions()
    table.set_block_size(_BLOCK_BYTES)
    table.set_bloom_filter(10, False)
    # The kernel keeps what is read often. A cache of ours made ten rows no faster, and each segment would have its own.
    table.disable_cache()
    options.set_block_based_table_factory(table)
    return options


def _passage_key(row: int) -> bytes:
    return b"p" + row.to_bytes(8, "big")


def _document_key(document_id: str) -> bytes:
    return b"d" + document_id.encode(errors="surrogatepass")  # no stored id has surrogates, but one may be asked for


class PassageWriter:
    """Writes the passages of one segment, rows in order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        options = _options()
        options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
        with _calls(path):
            self._db = Rdict(str(path), options)
        # No log: a segment that was not finished is thrown away, a finished one is flushed and synced.
        self._write_options = WriteOptions()
        self._write_options.disable_wal = True  # type: ignore[assignment, method-assign]  # its stub is wrong
        self._rows = 0
        self._run_document: str | None = None
        self._run_start = 0

    def add(self, passages: Sequence[Passage]) -> None:
        batch = WriteBatch(raw_mode=True)
        for passage in passages:
            if passage.document_id != self._run_document:
                self._end_run(batch)
                self._run_document, self._run_start = passage.document_id, self._rows
            value = asdict(passage)
            batch.put(_passage_key(self._rows), json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
            self._rows += 1
        self._write(batch)

    def _end_run(self, batch: WriteBatch) -> None:
        if self._run_document is not None:
            run = _RUN.pack(self._run_start, self._rows - self._run_start)
            batch.put(_document_key(self._run_document), run)

    def _write(self, batch: WriteBatch) -> None:
        with _calls(self._path):
            self._db.write(batch, write_opt=self._write_options)

    def close(self) -> None:
        """Flush, compact to sorted tables, and leave only what reading needs."""
        batch = WriteBatch(raw_mode=True)
        self._end_run(batch)
        self._write(batch)
        with _calls(self._path):
            self._db.flush()
            self._db.compact_range(None, None)
            self._db.close()
        # RocksDB's log of this run, and the binding's note that the store is in raw mode, written anew at each open.
        for useless in [*self._path.glob("LOG*"), self._path / _BINDING_NOTE]:
            useless.unlink(missing_ok=True)

    def abort(self) -> None:
        """Let go of the files, whatever state they are in: they will be removed."""
        # Closing writes what is left in memory, which a full disk refuses once more.
        with contextlib.suppress(DataLoss, ResourceExhausted), _calls(self._path):
            self._db.close()


class PassageStore:
    """Reads the passages of one segment; thread-safe, and writes nothing into the folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        options = _options()
        options.set_max_open_files(-1)  # all tables are opened now and stay open
        with _calls(path), tempfile.TemporaryDirectory(prefix="pergamon-") as stand_in:
            # The binding writes a note into the folder that it opens, even to read; a store stays as it is.
            for file in path.iterdir():
                Path(stand_in, file.name).symlink_to(file.absolute())
            self._db = Rdict(stand_in, options, access_type=AccessType.read_only())
        reading = ReadOptions()
        reading.set_verify_checksums(True)
        self._db.set_read_options(reading)

    def get(self, rows: Sequence[int]) -> list[Passage]:
        """The passages at `rows`, in that order.

        Raises:
            DataLoss: a row is missing or its block is damaged.
        """
        values = self._get([_passage_key(row) for row in rows])
        passages = []
        for row, value in zip(rows, values, strict=True):
            if value is None:
                raise DataLoss(f"{self._path} has no passage at row {row}", mend="run pergamon verify on the store")
            passages.append(self._decoded(row, value))
        return passages

    def _decoded(self, row: int, value: bytes) -> Passage:
        try:
            return Passage(**json.loads(value))
        except (ValueError, TypeError) as error:
            raise DataLoss(
                f"{self._path}: row {row} cannot be decoded: {error}", mend="run pergamon verify on the store"
            ) from None

    def scan(self) -> Iterator[tuple[int, Passage]]:
        """(row, passage) of all that the folder holds, by row: forty times the speed of `get`.

        Raises:
            DataLoss: a passage cannot be decoded. A damaged block can end the iteration, so count what comes.
        """
        for key, value in self._items(b"p"):
            row = int.from_bytes(key[1:], "big")
            yield row, self._decoded(row, value)

    def scan_runs(self) -> Iterator[tuple[str, int, int]]:
        """(document id, first row, number of passages) of all documents, by id in bytes."""
        for key, value in self._items(b"d"):
            try:
                yield key[1:].decode(), *_RUN.unpack(value)
            except (ValueError, struct.error) as error:
                raise DataLoss(
                    f"{self._path}: the document {key[1:]!r} cannot be decoded: {error}", mend=MEND
                ) from None

    def _items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        reading = ReadOptions()
        reading.set_verify_checksums(True)
        with _calls(self._path):
            items = cast(Iterator[tuple[bytes, bytes]], self._db.items(from_key=prefix, read_opt=reading))
        while True:
            with _calls(self._path):
                key, value = next(items, (b"", b""))
            if not key.startswith(prefix):
                return
            yield key, value

    def find(self, names: Sequence[PassageName]) -> list[int | None]:
        """Row of each name, None where this segment does not hold it."""
        rows: list[int | None] = []
        for name, run in zip(names, self.runs([name.document_id for name in names]), strict=True):
            first, count = run or (0, 0)
            rows.append(first + name.chunk_index if 0 <= name.chunk_index < count else None)
        return rows

    def runs(self, document_ids: Sequence[str]) -> list[tuple[int, int] | None]:
        """(first row, number of passages) of each document, None where this segment does not hold it."""
        values = self._get([_document_key(document_id) for document_id in document_ids])
        return [None if value is None else _RUN.unpack(value) for value in values]

    def _get(self, keys: list[bytes]) -> list[bytes | None]:
        with _calls(self._path):
            values: list[bytes | None] = self._db.get(list(keys)) or []
        return values

    def close(self) -> None:
        self._db.close()


def salvaged(path: Path, rows: int) -> Iterator[tuple[int, Passage]]:
    """(row, passage) of all of a damaged folder of so many rows that can be read, by row."""
    with tempfile.TemporaryDirectory(prefix="pergamon-") as folder:
        try:
            store = PassageStore(path)
        except DataLoss:  # RocksDB makes its own files anew from the tables that it finds
            copy = Path(folder, "copy")
            if not path.is_dir():
                return
            shutil.copytree(path, copy)
            try:
                with _calls(path):
                    Rdict.repair(str(copy), _options())
                store = PassageStore(copy)
            except DataLoss:
                return
        try:
            for start in range(0, rows, _SALVAGED_TOGETHER):
                yield from _readable(store, range(start, min(start + _SALVAGED_TOGETHER, rows)))
        finally:
            store.close()


def _readable(store: PassageStore, rows: range) -> Iterator[tuple[int, Passage]]:
    try:
        found = store.get(rows)
    except DataLoss:
        if len(rows) > 1:
            middle = len(rows) // 2
            yield from _readable(store, rows[:middle])
            yield from _readable(store, rows[middle:])
        return
    yield from zip(rows, found, strict=True)


@contextlib.contextmanager
def _calls(path: Path) -> Iterator[None]:
    """Turn what the binding raises into ours: bare Exception, with RocksDB's words for what happened."""
    try:
        yield
    except Exception as error:
        raise (exhausted(path, error) or DataLoss(f"{path}: {error}", mend=MEND)) from None
