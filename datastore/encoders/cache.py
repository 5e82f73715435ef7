"""Vectors kept from build to build, so that no passage is encoded twice by the same encoder.

    CACHE/
      3f…/                one folder for each encoder: a hash of its fingerprint
        encoder.json      the fingerprint, for people
        7c….keys          records of 24 bytes: BLAKE2b-128 of a text, XXH3-64 of its vector's bytes
        7c….vectors       float16 [records, dimension]

Each process appends to a pair of files of its own: first the vectors, then their keys. So nothing has to be locked, and
whoever is killed leaves a whole number of records, and a tail that nobody reads. A vector is checked when it is taken:
one that a crash of the machine left damaged is encoded again. What others add meanwhile is seen at the next opening.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import numpy as np
import xxhash
from numpy.typing import NDArray

from datastore.encoders.fingerprint import EncoderFingerprint
from datastore.encoders.registry import Encoder

_KEY = np.dtype([("high", ">u8"), ("low", ">u8"), ("check", "<u8")])
_VALUE = np.dtype("<f2")


class CachedEncoder:
    """Implements `datastore.encoders.registry.Encoder` by another one and a cache; passages alone are kept.

    Its vectors are rounded to half precision, as they are stored. Memory is 28 bytes for each vector in the cache. For
    one thread that encodes passages.

    Args:
        folder: of the cache; made where there is none.
    """

    def __init__(self, encoder: Encoder, folder: Path) -> None:
        self._encoder = encoder
        self._dimension = encoder.fingerprint.dimension
        self._folder = folder.absolute() / _fingerprint_hash(encoder.fingerprint)
        self._folder.mkdir(parents=True, exist_ok=True)
        note = self._folder / "encoder.json"
        if not note.exists():
            note.write_text(json.dumps(asdict(encoder.fingerprint), indent=1) + "\n", encoding="utf-8")
        self._own: tuple[BinaryIO, BinaryIO] | None = None
        self._load()
        self.found = 0
        """Passages whose vectors were there."""

    @property
    def fingerprint(self) -> EncoderFingerprint:
        return self._encoder.fingerprint

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encoder.encode_queries(texts)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self._encoder.count_tokens(texts)

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        digests = [_digest(text) for text in texts]
        vectors = np.empty((len(texts), self._dimension), _VALUE)
        missing = [i for i, digest in enumerate(digests) if not self._find(digest, vectors[i])]
        self.found += len(texts) - len(missing)
        if missing:
            encoded = self._encoder.encode_passages([texts[i] for i in missing])
            with np.errstate(over="ignore"):  # what has no float16 is refused by whoever stores it
                vectors[missing] = encoded
            if np.isfinite(vectors[missing]).all():
                self._add([digests[i] for i in missing], vectors[missing])
        return vectors.astype(np.float32)

    def close(self) -> None:
        for file in self._own or ():
            file.close()
        self._own = None

    def _load(self) -> None:
        """The keys of all files, sorted, and where their vectors are."""
        self._paths: list[Path] = []
        parts: list[NDArray[np.void]] = []
        places: list[NDArray[np.int64]] = []
        row = self._dimension * _VALUE.itemsize
        for path in sorted(self._folder.glob("*.keys")):
            vectors = path.with_suffix(".vectors")
            if not vectors.exists():
                continue
            count = min(path.stat().st_size // _KEY.itemsize, vectors.stat().st_size // row)
            if count:
                parts.append(np.fromfile(path, _KEY, count))
                places.append(np.arange(count, dtype=np.int64) | (len(self._paths) << 40))
                self._paths.append(vectors)
        keys = np.concatenate(parts) if parts else np.empty(0, _KEY)
        order = np.argsort(keys["high"], kind="stable")
        keys = keys[order]
        self._high = keys["high"].astype(np.uint64)
        self._low = keys["low"].astype(np.uint64)
        self._check = keys["check"].astype(np.uint64)
        self._places = np.concatenate(places)[order] if places else np.empty(0, np.int64)

    def _find(self, digest: bytes, out: NDArray[np.float16]) -> bool:
        high, low = (np.uint64(int.from_bytes(half, "big")) for half in (digest[:8], digest[8:]))
        at = int(np.searchsorted(self._high, high))
        while at < len(self._high) and self._high[at] == high:
            if self._low[at] == low and self._take(at, out):
                return True
            at += 1
        return False

    def _take(self, at: int, out: NDArray[np.float16]) -> bool:
        number, place = int(self._places[at]) >> 40, int(self._places[at]) & ((1 << 40) - 1)
        size = self._dimension * _VALUE.itemsize
        with self._paths[number].open("rb", buffering=0) as file:  # there may be more of them than may be open
            file.seek(place * size)
            data = file.read(size)
        if xxhash.xxh3_64_intdigest(data) != int(self._check[at]):
            return False
        out[:] = np.frombuffer(data, _VALUE)
        return True

    def _add(self, digests: Sequence[bytes], vectors: NDArray[np.float16]) -> None:
        if self._own is None:
            name = uuid.uuid4().hex
            self._own = (self._folder / f"{name}.keys").open("xb"), (self._folder / f"{name}.vectors").open("xb")
        keys, values = self._own
        rows = [vector.tobytes() for vector in vectors]
        values.write(b"".join(rows))
        values.flush()
        keys.write(
            b"".join(
                digest + xxhash.xxh3_64_intdigest(row).to_bytes(8, "little")
                for digest, row in zip(digests, rows, strict=True)
            )
        )
        keys.flush()


def _digest(text: str) -> bytes:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def _fingerprint_hash(fingerprint: EncoderFingerprint) -> str:
    values = {name: value for name, value in asdict(fingerprint).items() if name != "name"}
    return blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()
