"""Do the parts of a datastore agree? What checksums cannot say: they hold for whatever a writer wrote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from datastore.ann.spec import IndexSpec
from datastore.cleaning.minhash import choose_bands
from datastore.cleaning.settings import DuplicateSettings
from datastore.errors import PergamonError, ResourceExhausted
from datastore.store.document_keys import SortedKeys, has_keys
from datastore.store.manifest import SegmentRecord
from datastore.store.reader import Segment, StoreReader
from datastore.store.segment import SEGMENTS_FOLDER

_LENGTH_ERROR = 0.01
"""Of a vector of length 1 after rounding to float16: some thousandths of it at most, in any dimension used."""
_BLOCK_ROWS = 8192
_SHOWN = 3


def disagreements(reader: StoreReader) -> Iterator[str]:
    """One line for each thing in which parts of an open store differ, naming the file at fault."""
    manifest = reader.manifest
    documents: list[_Documents] = []
    for record, segment in zip(manifest.segments, reader.segments, strict=True):
        folder = reader.path / SEGMENTS_FOLDER / record.segment_id
        try:
            yield from _passages(folder, record, segment)
            yield from _vectors(folder, segment, manifest.encoder.normalized)
            yield from _codes(folder, record, manifest.index)
            yield from _deletions(reader.path, record, segment)
            if has_keys(record):
                yield from _keys(SortedKeys(reader.path, record), segment, manifest.config.clean.compared)
        except ResourceExhausted:
            raise
        except PergamonError as error:
            yield error.problem
        documents.append(_documents(segment))
    yield from _twice(reader, documents)
    if reader.bm25 is not None:
        wanted = sum(record.passages for record in manifest.segments)
        if reader.bm25.passage_count != wanted:
            yield (
                f"the BM25 indexes of {reader.path} hold {reader.bm25.passage_count} passages; "
                f"the manifest says {wanted}"
            )


def _some(rows: Iterable[object]) -> str:
    listed = list(rows)
    return ", ".join(map(str, listed[:_SHOWN])) + (f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else "")


def _passages(folder: Path, record: SegmentRecord, segment: Segment) -> Iterator[str]:
    """Passages and columns name the same, row by row; each document's rows are where its entry says."""
    where = folder / "passages"
    names = segment.columns.names(np.arange(record.passages))
    rows = 0
    runs: dict[str, tuple[int, int]] = {}
    other: list[int] = []
    for row, passage in segment.passages.scan():
        if row != rows:
            yield f"{where} has row {row} where row {rows} should be"
            return
        if row < len(names) and names[row] != passage.name:
            other.append(row)
        first, count = runs.get(passage.document_id, (row, 0))
        if first + count != row or passage.chunk_index != count:
            yield f"{where}: row {row} is chunk {passage.chunk_index} of {passage.document_id!r}, out of its order"
            return
        runs[passage.document_id] = (first, count + 1)
        rows += 1
    if rows != record.passages:
        yield f"{where} has {rows} passages; the manifest says {record.passages}"
    if other:
        yield f"{folder / 'columns.arrow'} and {where} name different passages in rows {_some(other)}"
    if len(runs) != record.documents:
        yield f"{where} has passages of {len(runs)} documents; the manifest says {record.documents}"
    found = {document: (first, count) for document, first, count in segment.passages.scan_runs()}
    if found != runs:
        wrong = sorted(key for key in found.keys() | runs.keys() if found.get(key) != runs.get(key))
        yield f"{where}: the entries of the documents {_some(map(repr, wrong))} do not say where their passages are"


def _vectors(folder: Path, segment: Segment, unit: bool) -> Iterator[str]:
    path = folder / "vectors.f16"
    odd: list[int] = []
    for start in range(0, segment.vectors.rows, _BLOCK_ROWS):
        block = segment.vectors.read_block(start, min(start + _BLOCK_ROWS, segment.vectors.rows))
        lengths = np.sqrt(np.einsum("ij,ij->i", block, block))
        right = np.isfinite(block).all(axis=1)
        if unit:  # a text without a word has no direction in some encoders
            right &= (np.abs(lengths - 1) < _LENGTH_ERROR) | (lengths == 0)
        odd += (np.flatnonzero(~right) + start).tolist()
    if odd:
        wanted = "length 1" if unit else "finite values"
        yield f"{path} has vectors without {wanted} in rows {_some(odd)}"


def _codes(folder: Path, record: SegmentRecord, spec: IndexSpec) -> Iterator[str]:
    """Every row is in as many lists as it should be (docs/FORMAT.md, ann.lists); FAISS checks its own files at open."""
    path = folder / "ann.lists"
    if spec.codes_name != path.name:
        return
    with path.open("rb") as file:
        lengths = np.fromfile(file, "<u4", spec.nlist)
        rows = np.fromfile(file, "<u4", int(lengths.sum(dtype=np.int64)))
    if len(rows) != spec.copies * record.passages or (len(rows) and int(rows.max()) >= record.passages):
        yield f"{path} has {len(rows)} codes; {record.passages} passages in {spec.copies} lists each were wanted"
        return
    wrong = np.flatnonzero(np.bincount(rows, minlength=record.passages) != spec.copies)
    if len(wrong):
        yield f"{path} does not have the rows {_some(wrong.tolist())} in {spec.copies} lists each"


def _keys(keys: SortedKeys, segment: Segment, compared: DuplicateSettings | None) -> Iterator[str]:
    """Of each kind of key there is one for each document, in order."""
    exact = bool(compared and compared.exact)
    near = choose_bands(compared.min_jaccard, compared.permutations).count if compared and compared.near else 0
    if (bool(keys.exact), keys.bands) != (exact, near):
        yield f"{keys.path} has (digests, bands) {keys.exact, keys.bands}; {int(exact), near} were wanted"
        return
    firsts = segment.columns.first_rows()
    sorted_keys = [keys.band(band) for band in range(keys.bands)]
    if exact:
        high, low, rows = keys.digests()
        sorted_keys.append((high, rows))
        if np.any((high[1:] == high[:-1]) & (low[1:] < low[:-1])):
            yield f"{keys.path} has digests out of their order"
    for number, (ordered, rows) in enumerate(sorted_keys):
        if np.any(ordered[1:] < ordered[:-1]):
            yield f"{keys.path} has keys out of their order, of kind {number}"
        if not np.array_equal(np.sort(rows), firsts):
            yield f"{keys.path} does not have the first row of each document, in kind {number}"


def _deletions(store: Path, record: SegmentRecord, segment: Segment) -> Iterator[str]:
    """As many rows are deleted as the manifest says, and whole documents."""
    if record.deletions is None:
        return
    path = store / record.deletions.file.path
    deleted = record.passages - segment.live.count
    if deleted != record.deletions.passages:
        yield f"{path} deletes {deleted} passages; the manifest says {record.deletions.passages}"
    gone = np.ones(record.passages, bool)
    gone[segment.live.rows] = False
    firsts = np.flatnonzero(segment.columns.table.column("chunk_index").to_numpy() == 0)
    if not len(firsts) or firsts[0]:
        return  # its passages are out of order, which is said already
    documents = int(np.count_nonzero(gone[firsts]))
    if documents != record.deletions.documents:
        yield f"{path} deletes {documents} documents; the manifest says {record.deletions.documents}"
    parts = np.cumsum(np.isin(np.arange(record.passages), firsts)) - 1
    torn = np.flatnonzero(np.bincount(parts, gone) % np.bincount(parts))
    if len(torn):
        names = segment.columns.names(firsts[torn])
        yield f"{path} deletes parts of the documents {_some(name.document_id for name in names)}"


@dataclass(frozen=True, slots=True)
class _Documents:
    """Documents of a segment that can be found: aligned arrays."""

    rows: NDArray[np.int64]
    """Of each one's first passage."""
    hashes: NDArray[np.uint64]


def _documents(segment: Segment) -> _Documents:
    chunks = segment.columns.table.column("chunk_index").to_numpy()
    rows = np.intersect1d(np.flatnonzero(chunks == 0), segment.live.rows)
    names = segment.columns.names(rows)
    hashes = [xxhash.xxh3_64_intdigest(name.document_id.encode()) for name in names]
    return _Documents(rows, np.array(hashes, np.uint64))


def _twice(reader: StoreReader, documents: Sequence[_Documents]) -> Iterator[str]:
    """Documents that more than one segment holds. Hashes of eight bytes each find them, and names tell."""
    hashes = np.concatenate([np.empty(0, np.uint64), *(mine.hashes for mine in documents)])
    rows = np.concatenate([np.empty(0, np.int64), *(mine.rows for mine in documents)])
    segments = np.repeat(np.arange(len(documents)), [len(mine.rows) for mine in documents])
    order = np.argsort(hashes, kind="stable")
    for place in np.flatnonzero(hashes[order][1:] == hashes[order][:-1]).tolist():
        pair = order[place : place + 2]
        holders = [reader.segments[segment] for segment in segments[pair].tolist()]
        first, second = (
            holder.columns.names(rows[one : one + 1])[0] for holder, one in zip(holders, pair.tolist(), strict=True)
        )
        if first == second:
            held = " and ".join(holder.segment_id for holder in holders)
            yield f"the document {first.document_id!r} is in the segments {held} of {reader.path}"
