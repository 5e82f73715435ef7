"""What the comparison of all documents needs of each, on disk: one folder for a task, made while its input is read.

Row `r` is the `r`-th document that the task added. The files are a build's working files, in the machine's byte order.
"""

from __future__ import annotations

import shutil
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datastore.cleaning.minhash import SKETCH_SHINGLES, MinHash, Shingles, choose_bands, shingles
from datastore.cleaning.settings import DuplicateSettings
from datastore.cleaning.words import Hashes, WordHasher
from datastore.documents import Document
from datastore.store.durable import fsync_path

_BUFFERED_ROWS = 1024
Rows = NDArray[np.uint32]


def compared_text(document: Document) -> str:
    """What duplicates are duplicates in: the text; the title of a document without text."""
    return document.text if document.text.strip() else document.title


class SignatureWriter:
    """Writes the folder of one task. What is left of an earlier attempt is replaced."""

    def __init__(self, folder: Path, settings: DuplicateSettings) -> None:
        self._folder = folder
        self._settings = settings
        self._hasher = WordHasher()
        self._minhash = MinHash(choose_bands(settings.min_jaccard, settings.permutations))
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
            self._digests.append(blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest())
        if self._settings.near:
            found = shingles(text, self._settings.shingle_words, self._hasher)
            self._minima.append(self._minhash.minima(found))
            self._sketches.append(found[:SKETCH_SHINGLES])
        self._count += 1
        if len(self._ids) >= _BUFFERED_ROWS:
            self._flush()

    def finish(self) -> None:
        """Sort the keys, and have everything on disk."""
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
        for name in ("digests", "keys"):
            (self._folder / name).unlink()
        for path in self._folder.iterdir():
            fsync_path(path)
        fsync_path(self._folder)

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


_SPOOLED = ("ids", "ids.lengths", "digests", "keys", "sketches", "sketches.lengths")


class Signatures:
    """The folder of one task, read. Arrays stay on disk, mapped as long as they are held: there may be more tasks than
    files may be open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.count = len(_load(folder / "ids.ends.npy"))

    def digests(self) -> tuple[NDArray[np.uint64], Rows]:
        """uint64[count, 2] ascending, and their rows."""
        return _load(self._folder / "digests.npy"), _load(self._folder / "digests.rows.npy")

    def band(self, band: int) -> tuple[Hashes, Rows]:
        """Keys of one band, uint64[count] ascending, and their rows."""
        return _load(self._folder / "bands.npy")[band], _load(self._folder / "bands.rows.npy")[band]


class DocumentIds:
    """The ids of one task, by row."""

    def __init__(self, folder: Path) -> None:
        self._ends = _load(folder / "ids.ends.npy")
        self._path = folder / "ids"

    def __getitem__(self, row: int) -> str:
        start = int(self._ends[row - 1]) if row else 0
        with self._path.open("rb") as file:
            file.seek(start)
            return file.read(int(self._ends[row]) - start).decode(errors="surrogatepass")


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
