"""The cache gives what the encoder gave, whoever was killed and whatever was damaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datastore.encoders.cache import CachedEncoder
from datastore.encoders.hashing import HashingEncoder

TEXTS = [f"passage number {i} of the keeper" for i in range(50)]


class Counting(HashingEncoder):
    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.encoded += texts
        return super().encode_passages(texts)


def encoded(folder: Path, texts: Sequence[str]) -> tuple[NDArray[np.float32], list[str]]:
    """Vectors, and what was encoded for them."""
    encoder = Counting()
    cached = CachedEncoder(encoder, folder)
    vectors = cached.encode_passages(texts)
    cached.close()
    assert cached.found == len(texts) - len(encoder.encoded)
    return vectors, encoder.encoded


def wanted(texts: Sequence[str]) -> NDArray[np.float32]:
    return HashingEncoder().encode_passages(texts).astype(np.float16).astype(np.float32)


def test_only_what_is_new_is_encoded(tmp_path: Path) -> None:
    assert encoded(tmp_path, TEXTS[:30])[1] == TEXTS[:30]
    vectors, new = encoded(tmp_path, TEXTS[10:] + TEXTS[:3])
    assert new == TEXTS[30:]
    np.testing.assert_array_equal(vectors, wanted(TEXTS[10:] + TEXTS[:3]))
    assert encoded(tmp_path, TEXTS)[1] == []


def test_several_at_once(tmp_path: Path) -> None:
    one, two = (CachedEncoder(HashingEncoder(), tmp_path) for _ in range(2))
    for start in range(0, 40, 10):
        one.encode_passages(TEXTS[start : start + 10])
        two.encode_passages(TEXTS[start + 5 : start + 15])
    vectors, new = encoded(tmp_path, TEXTS)  # neither has been closed
    one.close()
    two.close()
    assert new == TEXTS[45:]
    np.testing.assert_array_equal(vectors, wanted(TEXTS))


@pytest.mark.parametrize("suffix", [".keys", ".vectors"])
@pytest.mark.parametrize("lost", [1, 24, 700])
def test_a_torn_tail_is_encoded_again(tmp_path: Path, suffix: str, lost: int) -> None:
    encoded(tmp_path, TEXTS)
    (path,) = tmp_path.glob(f"*/*{suffix}")
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size - lost)
    vectors, new = encoded(tmp_path, TEXTS)
    assert 0 < len(new) < 50
    np.testing.assert_array_equal(vectors, wanted(TEXTS))


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    encoded(tmp_path, TEXTS)
    (path,) = tmp_path.glob("*/*.vectors")
    content = bytearray(path.read_bytes())
    content[512 * 7 + 3] ^= 4
    path.write_bytes(content)
    vectors, new = encoded(tmp_path, TEXTS)
    assert new == [TEXTS[7]]
    np.testing.assert_array_equal(vectors, wanted(TEXTS))


def test_another_encoder_has_other_vectors(tmp_path: Path) -> None:
    encoded(tmp_path, TEXTS)
    other = Counting()
    other.fingerprint = replace(other.fingerprint, passage_prompt="passage: ")
    cached = CachedEncoder(other, tmp_path)
    cached.encode_passages(TEXTS)
    cached.close()
    assert other.encoded == TEXTS
