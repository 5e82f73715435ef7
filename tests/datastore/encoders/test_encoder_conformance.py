"""What every encoder keeps to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from datastore.encoders.registry import Encoder

Encode = Callable[[Sequence[str]], NDArray[np.float32]]

TEXTS = [
    "a falcon over the marsh",
    "tide",
    "",
    "the harbour master counts the boats at dawn and writes their names into a long grey book " * 2,
    "Ünïcödé 漢字 🦉",
    "tide",
]
STRANGE = ["", " ", "\n\t", "\0", "a\0b", "\ud800", "x \udfff y", "\U0010ffff", "\u200b", "q" * 20_000, "w " * 20_000]


@pytest.fixture(params=["queries", "passages"])
def encode(request: pytest.FixtureRequest, encoder: Encoder) -> Encode:
    return encoder.encode_queries if request.param == "queries" else encoder.encode_passages


def test_shape_type_and_length(encoder: Encoder, encode: Encode) -> None:
    vectors = encode(TEXTS)
    assert vectors.shape == (len(TEXTS), encoder.fingerprint.dimension)
    assert vectors.dtype == np.float32
    assert vectors.flags["C_CONTIGUOUS"]
    assert encoder.fingerprint.normalized
    lengths = np.linalg.norm(vectors, axis=1)
    worded = [i for i, text in enumerate(TEXTS) if text]
    np.testing.assert_allclose(lengths[worded], 1.0, atol=1e-5)
    assert (lengths <= 1.0 + 1e-5).all()


def test_a_vector_does_not_depend_on_the_texts_around_it(encode: Encode) -> None:
    together = encode(TEXTS)
    alone = np.concatenate([encode([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(encode(TEXTS[::-1]), together[::-1], atol=1e-5)
    np.testing.assert_allclose(encode(TEXTS * 6)[-len(TEXTS) :], together, atol=1e-5)


def test_the_same_text_again(encode: Encode) -> None:
    vectors = encode(TEXTS)
    np.testing.assert_array_equal(vectors, encode(TEXTS))
    np.testing.assert_allclose(vectors[1], vectors[5], atol=1e-6)
    assert not np.allclose(vectors[0], vectors[1], atol=1e-3)


def test_no_texts(encoder: Encoder, encode: Encode) -> None:
    vectors = encode([])
    assert vectors.shape == (0, encoder.fingerprint.dimension)
    assert vectors.dtype == np.float32
    assert encoder.count_tokens([]) == []


def test_any_string_has_a_finite_vector(encoder: Encoder, encode: Encode) -> None:
    vectors = encode([*STRANGE, "a falcon"])
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors[-1], encode(["a falcon"])[0], atol=1e-5)
    assert min(encoder.count_tokens(STRANGE)) >= 0


def test_tokens_are_counted_beyond_what_is_read(encoder: Encoder) -> None:
    few, many = encoder.count_tokens(["w w w", "w " * 5000])
    assert 3 <= few < 10
    assert 5000 <= many < 5010


def test_what_is_beyond_the_limit_has_no_part(encoder: Encoder, encode: Encode) -> None:
    limit = encoder.fingerprint.max_tokens
    start = "w " * (limit or 500)
    vectors = encode([start + "falcon", start + "harbour"])
    assert (limit > 0) == np.allclose(vectors[0], vectors[1], atol=1e-6)


def test_from_many_threads(encoder: Encoder) -> None:
    expected = encoder.encode_queries(TEXTS[:2])
    wrong: list[float] = []

    def run() -> None:
        for i in range(5):
            vector = encoder.encode_queries([TEXTS[i % 2]])[0]
            encoder.count_tokens(TEXTS)
            wrong.append(float(np.abs(vector - expected[i % 2]).max()))

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 30
    assert max(wrong) < 1e-5
