"""The file of keys, held against what docs/FORMAT.md says of it, in plain Python."""

from __future__ import annotations

import json
import re
import struct
import unicodedata
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import xxhash

from datastore.build import build
from datastore.store.manifest import read_manifest

if TYPE_CHECKING:
    from tests.datastore.conftest import Config

TEXTS = (
    "The keeper of the lighthouse wrote down, every hour, what the wind did and what the sea did. " * 3,
    "Two words",
    "   \u00c9t\u00e9 \u6e2f\u306e\u58c1 \ufb01le!  ",
    "... !?",
)
BITS = (1 << 64) - 1
M = 0x9E3779B97F4A7C15


def mix(value: int) -> int:
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & BITS
    value = (value ^ value >> 27) * 0x94D049BB133111EB & BITS
    return value ^ value >> 31


def keys_of(text: str, width: int, bands: int, rows: int) -> list[int]:
    words = re.findall(
        r"[\u3040-\u30ff\u4e00-\u9fff]|[^\W\u3040-\u30ff\u4e00-\u9fff]+", unicodedata.normalize("NFKC", text).casefold()
    )
    if not words:
        return [0] * bands
    hashes = [xxhash.xxh3_64_intdigest(word.encode()) for word in words]
    width = min(width, len(hashes))
    shingles = set()
    for i in range(len(hashes) - width + 1):
        total = 0
        for value in hashes[i : i + width]:
            total = (total * M + value) & BITS
        shingles.add(mix(total) >> 32)
    x, y = np.random.default_rng(0x5045524741).integers(0, 2**63, (2, bands * rows), np.uint64).tolist()
    minima = [min(((2 * a + 1) * s + 2 * b + 1 & BITS) >> 32 for s in shingles) for a, b in zip(x, y, strict=True)]
    keys = []
    for band in range(bands):
        key = 0
        for minimum in minima[band * rows : (band + 1) * rows]:
            key = mix(key + minimum & BITS)
        keys.append(key)
    return keys


@pytest.mark.parametrize(("permutations", "bands", "rows"), [(128, 25, 5), (16, 8, 2)])
def test_the_file_is_what_the_format_says(
    config: Config, tmp_path: Path, permutations: int, bands: int, rows: int
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"_id": f"d{i}", "text": text}) + "\n" for i, text in enumerate(TEXTS)))
    settings = {"shingle_words": 4, "permutations": permutations}
    build([str(source)], tmp_path / "store", config(clean={"duplicates": settings}, chunk={"words": 20}))
    (record,) = read_manifest(tmp_path / "store").segments
    content = (tmp_path / "store" / "segments" / record.segment_id / "signatures.keys").read_bytes()
    assert struct.unpack_from("<QII", content) == (4, 1, bands)
    longs = struct.unpack_from(f"<{4 * (2 + bands)}Q", content, 16)
    firsts = struct.unpack_from(f"<{4 * (1 + bands)}I", content, 16 + 8 * len(longs))
    assert len(content) == 16 + 8 * len(longs) + 4 * len(firsts)

    first_rows = [0, 3, 4, 5]  # the first text has 54 words, so three passages
    digests = [struct.unpack("<QQ", blake2b(text.encode(), digest_size=16).digest()) for text in TEXTS]
    expected = sorted(zip(digests, first_rows, strict=True))
    assert list(zip(longs[:4], longs[4:8], strict=True)) == [digest for digest, _ in expected]
    assert list(firsts[:4]) == [row for _, row in expected]
    keys = [keys_of(text, 4, bands, rows) for text in TEXTS]
    for band in range(bands):
        own = sorted(zip((key[band] for key in keys), first_rows, strict=True))
        assert list(longs[8 + 4 * band : 12 + 4 * band]) == [key for key, _ in own]
        assert list(firsts[4 + 4 * band : 8 + 4 * band]) == [row for _, row in own]
