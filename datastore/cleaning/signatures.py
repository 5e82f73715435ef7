"""What the comparison of all documents needs of each, on disk: one folder for a task, made while its input is read.

Row `r` is the `r`-th document that the task added. The files are working files, in the machine's byte order; the keys
in them become a part of the segments (`datastore.store.document_keys`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datastore.chunking.spans import rejoin
from datastore.cleaning.minhash import SKETCH_SHINGLES, MinHash, Shingles, choose_bands, shingles
from datastore.cleaning.settings import DuplicateSettings
from datastore.cleaning.words import Hashes, WordHasher
from datastore.documents import Document, Passage
from datastore.store.document_keys import DocumentKeys

_BUFFERED_ROWS = 1024
Rows = NDArray[np.uint32]


def compared_text(document: Document) -> str:
    """What duplicates are duplicates in: the text; the title of a document without text."""
    return document.text if document.text.strip() else document.title


class Signer:
    """Makes what documents are compared by; remembers hashes of words."""

    def __init__(self, settings: DuplicateSettings) -> None:
        self._words = settings.shingle_words
        self._hasher = WordHasher()
        self.minhash = MinHash(choose_bands(settings.min_jaccard, settings.permutations))

    def digest(self, text: str) -> bytes:
        """16 bytes, of BLAKE2b."""
        return blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()

    def shingles(self, text: str) -> Shingles:
        return shingles(text, self._words, self._hasher)

    def sketch(self, text: str) -> Shingles:
        """The least of its shingles."""
        return self.shingles(text)[:SKETCH_SHINGLES]


class SignatureWriter:
    """Writes the folder of one task. What is left of an earlier attempt is replaced."""

    def __init__(self, folder: Path, settings: DuplicateSettings) -> None:
        self._folder = folder
        self._settings = settings
        self._signer = Signer(settings)
        self._minhash = self._signer.minhash
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._digests: list[bytes] = []
        self._minima: list[NDArray[np.uint32]] = []
        self._sketches: list[Shingles] = []
        self._ids: list[bytes] = []
        self._count = 0
        self._open = {name: (folder / name).open("wb") for name in _SPOOLED}

    def add(self, document: Document) -> None:
        """The next row."""
        text = compared_text(document)
        self._ids.append(document.document_id.encode(errors="surrogatepass"))
        if self._settings.exact:
            self._digests.append(self._signer.digest(text))
        if self._settings.near:
            found = self._signer.shingles(text)
            self._minima.append(self._minhash.minima(found))
            self._sketches.append(found[:SKETCH_SHINGLES])
        self._count += 1
        if len(self._ids) >= _BUFFERED_ROWS:
            self._flush()

    def finish(self) -> None:
        """Sort the keys, and close the files."""
        self._flush()
        for file in self._open.values():
            file.close()
        for name in ("ids", "sketches"):
            lengths = np.fromfile(self._folder / f"{name}.lengths", np.uint32)
            np.save(self._folder / f"{name}.ends.npy", np.cumsum(lengths, dtype=np.uint64))
            (self._folder / f"{name}.lengths").unlink()
        if self._settings.exact:
            digests = np.fromfile(self._folder / "digests", np.uint64).reshape(-1, 2)
            order = np.lexsort((digests[:, 1], digests[:, 0]))
            np.save(self._folder / "digests.npy", digests[order])
            np.save(self._folder / "digests.rows.npy", order.astype(np.uint32))
        if self._settings.near:
            self._sort_bands()

    def abort(self) -> None:
        """Close the files; the folder is of no use."""
        for file in self._open.values():
            file.close()

    def _sort_bands(self) -> None:
        shape = (self._minhash.bands.count, self._count)
        if not self._count:
            np.save(self._folder / "bands.npy", np.empty(shape, np.uint64))
            np.save(self._folder / "bands.rows.npy", np.empty(shape, np.uint32))
            return
        keys = np.lib.format.open_memmap(self._folder / "bands.npy", "w+", np.uint64, shape)
        rows = np.lib.format.open_memmap(self._folder / "bands.rows.npy", "w+", np.uint32, shape)
        spooled = np.memmap(self._folder / "keys", np.uint64, "r", shape=(self._count, shape[0]))
        for band in range(shape[0]):
            column = np.ascontiguousarray(spooled[:, band])
            order = np.argsort(column, kind="stable")
            keys[band], rows[band] = column[order], order
        keys.flush()
        rows.flush()

    def _flush(self) -> None:
        self._open["ids"].write(b"".join(self._ids))
        self._open["ids.lengths"].write(np.array([len(identifier) for identifier in self._ids], np.uint32).tobytes())
        self._open["digests"].write(b"".join(self._digests))
        if self._minima:
            self._open["keys"].write(self._minhash.keys(np.array(self._minima)).tobytes())
        self._open["sketches"].write(b"".join(sketch.tobytes() for sketch in self._sketches))
        self._open["sketches.lengths"].write(np.array([len(sketch) for sketch in self._sketches], np.uint32).tobytes())
        for buffered in (self._ids, self._digests, self._minima, self._sketches):
            buffered.clear()


_KEPT = ("digests", "keys")
_SPOOLED = (*_KEPT, "ids", "ids.lengths", "sketches", "sketches.lengths")


def document_keys(
    folder: Path, settings: DuplicateSettings, documents: NDArray[np.int64], first_rows: NDArray[np.int64]
) -> DocumentKeys:
    """The keys of some documents of a task, by their rows here, as of those that begin in these rows of a segment."""
    bands = choose_bands(settings.min_jaccard, settings.permutations).count if settings.near else 0
    return DocumentKeys(
        first_rows.astype(np.uint32),
        _chosen(folder / "digests", 2 * settings.exact, documents),
        _chosen(folder / "keys", bands, documents),
    )


def keys_of_passages(passages: Iterable[tuple[int, Passage]], settings: DuplicateSettings) -> DocumentKeys:
    """The same, made anew of the (row, passage) of a segment, where they were not kept.

    White space around passages is not known any more, so the digest of a text that had any is another.
    """
    signer = Signer(settings)
    rows: list[int] = []
    digests: list[bytes] = []
    minima: list[NDArray[np.uint32]] = []
    for _, run in groupby(passages, lambda item: item[1].document_id):
        own = list(run)
        text = stored_text([passage for _, passage in own])
        rows.append(own[0][0])
        digests.append(signer.digest(text) if settings.exact else b"")
        if settings.near:
            minima.append(signer.minhash.minima(signer.shingles(text)))
    keys = signer.minhash.keys(np.array(minima)) if minima else np.empty((len(rows), 0), np.uint64)
    halves = np.frombuffer(b"".join(digests), "<u8").reshape(len(rows), 2 * settings.exact)
    return DocumentKeys(np.array(rows, np.uint32), halves, keys)


def stored_text(passages: list[Passage]) -> str:
    """`compared_text` of a document, of its passages."""
    text = rejoin(passages)
    return text if text.strip() else passages[0].title


def keep_keys_alone(folder: Path) -> None:
    """Remove what only the comparison of documents needs; `document_keys` still reads what is left."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name not in _KEPT:
            path.unlink()


def _chosen(path: Path, width: int, rows: NDArray[np.int64]) -> Hashes:
    """uint64 [rows, width] of a file of such; without a width there is nothing to be read."""
    if not width:
        return np.empty((len(rows), 0), np.uint64)
    return np.asarray(np.memmap(path, np.uint64, "r").reshape(-1, width)[rows])


class Signatures:
    """The folder of one task, read; arrays stay on disk, mapped while this is held."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._maps: dict[str, NDArray[Any]] = {}

    @property
    def count(self) -> int:
        return len(self._map("ids.ends"))

    def document_id(self, row: int) -> str:
        """Of the document in that row."""
        ends = self._map("ids.ends")
        start = int(ends[row - 1]) if row else 0
        with (self._folder / "ids").open("rb") as file:
            file.seek(start)
            return file.read(int(ends[row]) - start).decode(errors="surrogatepass")

    def digests(self) -> tuple[NDArray[np.uint64], Rows]:
        """uint64[count, 2] ascending, and their rows."""
        return self._map("digests"), self._map("digests.rows")

    def band(self, band: int) -> tuple[Hashes, Rows]:
        """Keys of one band, uint64[count] ascending, and their rows."""
        return self._map("bands")[band], self._map("bands.rows")[band]

    def _map(self, name: str) -> NDArray[Any]:
        if name not in self._maps:
            self._maps[name] = _load(self._folder / f"{name}.npy")
        return self._maps[name]


class Sketches:
    """The sketches of one task, by row."""

    def __init__(self, folder: Path) -> None:
        self._ends = _load(folder / "sketches.ends.npy")
        path = folder / "sketches"
        self._values = np.memmap(path, np.uint32, "r") if path.stat().st_size else np.empty(0, np.uint32)

    def __getitem__(self, row: int) -> Shingles:
        start = int(self._ends[row - 1]) if row else 0
        return np.asarray(self._values[start : int(self._ends[row])])


def _load(path: Path) -> NDArray[Any]:
    """The array in a file, mapped."""
    try:
        mapped: NDArray[Any] = np.load(path, mmap_mode="r")
    except ValueError:  # numpy maps no empty arrays
        return np.asarray(np.load(path, allow_pickle=False))
    return mapped
