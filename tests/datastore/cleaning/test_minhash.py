from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore.cleaning.minhash import (
    SKETCH_SHINGLES,
    Bands,
    MinHash,
    Shingles,
    choose_bands,
    jaccard,
    shingles,
)
from datastore.cleaning.words import WordHasher, ngrams, split_words

LETTERS = st.text("abcd ", max_size=60)


def plain_shingles(text: str, n: int) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[i : i + n]) for i in range(max(len(words) - n + 1, min(len(words), 1)))}


@given(LETTERS, LETTERS, st.integers(1, 4))
def test_shingles_and_jaccard_against_plain_sets(one: str, other: str, n: int) -> None:
    sets = plain_shingles(one, n), plain_shingles(other, n)
    sketches = shingles(one, n, WordHasher()), shingles(other, n, WordHasher())
    assert [len(sketch) for sketch in sketches] == [len(plain) for plain in sets]
    union = sets[0] | sets[1]
    expected = len(sets[0] & sets[1]) / len(union) if sets[0] and sets[1] else 0
    assert jaccard(*sketches) == expected


def test_case_marks_and_widths_do_not_matter() -> None:
    assert split_words("The „Café“, No. 7!") == split_words("the CAFÉ no 7") == ["the", "café", "no", "7"]
    assert split_words("\uff46ull \ufb01le") == ["full", "file"]
    assert split_words("港の壁 wall") == ["港", "の", "壁", "wall"]
    assert split_words("... !?") == []


def test_ngrams_depend_on_order_and_place() -> None:
    hasher = WordHasher()
    a, b, c = hasher.hash(["a", "b", "c"])
    grams = ngrams(np.array([a, b, c, a, b], np.uint64), 2)
    assert len(grams) == 4
    assert grams[0] == grams[3]
    assert len({*grams.tolist()}) == 3
    assert ngrams(np.array([b, a], np.uint64), 2)[0] != grams[0]
    assert ngrams(np.array([a], np.uint64), 2).tolist() == []


def test_hashes_are_those_of_xxh3() -> None:
    assert WordHasher().hash([""]).tolist() == [0x2D06800538D394C2]  # the published value for the empty input


@pytest.mark.parametrize("common", [300, 900, 1600])
def test_sketches_of_long_texts_estimate(common: int) -> None:
    words = [f"w{i}" for i in range(6000)]
    texts = words[:2000], words[2000 - common : 4000 - common]
    sketches = [shingles(" ".join(text), 1, WordHasher()) for text in texts]
    exact = common / (4000 - common)
    cut = [sketch[:SKETCH_SHINGLES] for sketch in sketches]
    assert abs(jaccard(*cut) - exact) < 4 * np.sqrt(exact * (1 - exact) / SKETCH_SHINGLES)


def test_bands_find_what_they_should() -> None:
    assert choose_bands(0.8, 128) == Bands(25, 5)
    for least in (0.3, 0.5, 0.8, 0.95):
        bands = choose_bands(least, 256)
        assert bands.count * bands.rows <= 256
        assert bands.found(least) >= 0.999
    assert choose_bands(0.01, 16) == Bands(16, 1), "the best there is"


def _pair(similarity: float, size: int, source: random.Random) -> tuple[Shingles, Shingles]:
    common = round(2 * size * similarity / (1 + similarity))
    values = np.array(source.sample(range(1 << 32), 2 * size - common), np.uint32)
    return np.sort(values[:size]), np.sort(values[size - common :])


@pytest.mark.parametrize("similarity", [0.5, 0.8, 0.9])
def test_pairs_meet_as_often_as_the_formula_says(similarity: float) -> None:
    bands = choose_bands(0.8, 20)  # so few that misses are frequent
    hashing, source, pairs = MinHash(bands), random.Random(1), 1000
    met = 0
    for _ in range(pairs):
        keys = hashing.keys(np.array([hashing.minima(each) for each in _pair(similarity, 100, source)]))
        met += bool((keys[0] == keys[1]).any())
    expected = bands.found(similarity)
    assert abs(met / pairs - expected) < 4 * np.sqrt(max(expected * (1 - expected), 1e-3) / pairs) + 0.01


def test_minima_do_not_depend_on_blocks() -> None:
    hashing = MinHash(Bands(2, 3))
    values = np.arange(10_000, dtype=np.uint32)
    parts = np.minimum(hashing.minima(values[:7000]), hashing.minima(values[7000:]))
    assert (hashing.minima(values) == parts).all()
    assert hashing.keys(hashing.minima(values[:0])[None]).tolist() == [[0, 0]]
