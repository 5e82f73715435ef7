"""Each rule of Gopher and FineWeb, on texts whose figures are worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore.cleaning.fineweb import check_fineweb
from datastore.cleaning.gopher import check_gopher
from datastore.cleaning.repetition import check_repetition, duplicate_ngram_share, duplicate_shares, top_ngram_share
from datastore.cleaning.settings import FineWebSettings, GopherSettings, RepetitionSettings
from datastore.cleaning.words import WordHasher
from datastore.sources.rejects import RefusedError

SENTENCE = "The light of the moon falls on the hills and that of the lamps on the street, with a faint hum to it."
PROSE = "\n".join(
    f"{SENTENCE} Page {i} of the book has {i * i} words on the weather of the {i}th month." for i in range(4)
)
HEADINGS = [f"A heading of page {i} without a full stop" for i in range(8)]
GOPHER = GopherSettings(min_words=5)


def reason(check: Callable[[], None]) -> str:
    """Why a text is refused; empty if it is not."""
    try:
        check()
    except RefusedError as refused:
        return refused.reason
    return ""


def gopher(text: str, settings: GopherSettings = GOPHER) -> str:
    return reason(lambda: check_gopher(text, settings))


def test_prose_passes_with_the_defaults() -> None:
    assert gopher(PROSE, GopherSettings()) == ""
    assert reason(lambda: check_fineweb(PROSE, FineWebSettings())) == ""
    assert reason(lambda: check_repetition(SENTENCE, RepetitionSettings(), WordHasher())) == ""


@pytest.mark.parametrize("words", [49, 50, 100_000, 100_001])
def test_word_count(words: int) -> None:
    text = " ".join(["the", "of", *["hills"] * (words - 2)])
    assert gopher(text, GopherSettings()) == ("" if 50 <= words <= 100_000 else "word count")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the of a b c d", "word length"),  # 9 letters in 6 words: 1.5
        ("the of ab abcd abcd", ""),  # 15 in 5: just 3
        ("the of " + "x" * 15 + " " + "y" * 15 + " " + "z" * 15, ""),  # 50 in 5: just 10
        ("the of " + "x" * 15 + " " + "y" * 15 + " " + "z" * 16, "word length"),  # 51 in 5
        ("the # of hills and # hills here and there with more", "symbols"),  # 2 # in 11 words: more than 0.1
        ("the # of hills and some hills here and there", ""),  # 1 # in 10
        ("the ... of hills … and hills here and there", "symbols"),  # 2 ellipses in 9
        ("the of hills 12 345 6789 and that", "alphabetic words"),  # 5 of 8 words have a letter
        ("the of hills and 12345", ""),  # 4 of 5: just 0.8
        ("hills mountains rivers lakes streets the", "stop words"),  # one of the stop words
        ("hills mountains rivers lakes streets the the", "stop words"),  # the same one twice
        ("(The hills, rivers and lakes, streets OF.", ""),  # marks and case do not matter
    ],
)
def test_words(text: str, expected: str) -> None:
    assert gopher(text) == expected


def test_what_is_said_is_beyond_the_limit() -> None:
    """Not the same number twice, as by rounding."""
    with pytest.raises(RefusedError) as refused:
        check_gopher(" ".join(["# the of hills and 1"] + ["the hills and rivers"] * 23 + ["# " * 11]), GOPHER)
    assert refused.value.detail == "# come 0.110 times a word; at most 0.1 are taken"


def test_lines() -> None:
    bullets = "\n".join(["- the way of all hills and rivers"] * 10)
    assert gopher(bullets) == "bullet lines"
    assert gopher(bullets + "\nThe end of the list and of it all") == "bullet lines"  # 10 of 11: 0.909
    assert gopher("\n".join(bullets.splitlines()[:9]) + "\n\nThe end of the list and of it all") == ""  # 9 of 10
    read_on = "The way of the hills, and the river is here ..."
    whole = "The way of all the hills, and the river is here."
    assert gopher("\n".join([read_on, *[whole] * 2])) == "ellipsis lines"  # 1 of 3
    assert gopher("\n".join([read_on, *[whole] * 3])) == ""  # 1 of 4


def test_gopher_takes_other_settings() -> None:
    assert gopher("hier steht ein kurzer Satz", replace(GOPHER, min_stop_words=0)) == ""
    assert gopher("hier steht ein kurzer Satz", replace(GOPHER, stop_words=("ein", "hier"))) == ""
    assert gopher("", replace(GOPHER, min_words=0)) == "word length"


def test_duplicate_lines_are_those_after_the_first() -> None:
    # Four lines of 2 + 2 + 4 + 2 letters: the second and fourth came before.
    assert duplicate_shares(["ab", " ab ", "", "cdef", "ab"]) == (2 / 4, 4 / 10)
    assert duplicate_shares([]) == (0, 0)


def _words(text: str) -> tuple[np.ndarray, np.ndarray]:
    words = text.split()
    return WordHasher().hash(words), np.array([len(word) for word in words], np.int64)


def test_ngram_shares_by_hand() -> None:
    # "a bb" comes twice, of 3 letters, among 1 + 2 + 3 + 1 + 2 = 9.
    assert top_ngram_share(*_words("a bb ccc a bb"), 2) == 6 / 9
    assert top_ngram_share(*_words("a bb ccc"), 2) == 0, "nothing comes twice"
    # "d d d d": "d d" comes three times, with 2 letters each of 4: overlapping, so no more than all.
    assert top_ngram_share(*_words("d d d d"), 2) == 1
    # Of two 2-grams that come twice the longer counts: "ffff gg", 12 of 16 letters.
    assert top_ngram_share(*_words("a b ffff gg a b ffff gg"), 2) == 12 / 16
    # "a bb ccc" again, after an x: 6 of 13 letters.
    assert duplicate_ngram_share(*_words("a bb ccc x a bb ccc"), 3) == 6 / 13
    # Words of two duplicates that overlap count once: of "p q r s p q r s" the second half.
    assert duplicate_ngram_share(*_words("p q r s p q r s"), 3) == 4 / 8
    assert duplicate_ngram_share(*_words("p q"), 3) == 0


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(2, 6))
def test_duplicate_ngrams_against_a_plain_count(words: list[str], n: int) -> None:
    seen, covered = set(), set()
    for i in range(len(words) - n + 1):
        gram = tuple(words[i : i + n])
        covered |= set(range(i, i + n)) if gram in seen else set()
        seen.add(gram)
    hashes, lengths = _words(" ".join(words))
    assert duplicate_ngram_share(hashes, lengths, n) == pytest.approx(len(covered) / max(len(words), 1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One line of this kind\nanother one there\nOne line of this kind\nOne line of this kind", "repeated lines"),
        ("First part\n\nSecond part\n\nFirst part\n\nFirst part", "repeated lines"),
        ("spam egg spam egg spam egg and nothing else", "repeated n-grams"),
        (SENTENCE, ""),
        ("", ""),
        ("word", ""),
    ],
)
def test_repetition(text: str, expected: str) -> None:
    assert reason(lambda: check_repetition(text, RepetitionSettings(), WordHasher())) == expected


def test_each_length_of_ngram_has_its_limit() -> None:
    settings = RepetitionSettings()
    assert [settings.top(n) for n in range(2, 5)] == [0.2, 0.18, 0.16]
    assert [settings.duplicate(n) for n in range(5, 11)] == [0.15, 0.14, 0.13, 0.12, 0.11, 0.1]
    # Ten words that come again, of 100: one in ten of the letters is in repeated 5-grams, as 0.05 is allowed and 0.2.
    words = [f"w{i:02}" for i in range(90)] + [f"w{i:02}" for i in range(10)]
    allowed = replace(settings, max_duplicate_5_grams=0.2, max_duplicate_10_grams=0.2)
    assert reason(lambda: check_repetition(" ".join(words), allowed, WordHasher())) == ""
    tight = replace(allowed, max_duplicate_5_grams=0.05)
    assert reason(lambda: check_repetition(" ".join(words), tight, WordHasher())) == "repeated n-grams"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([*HEADINGS[:8], "A sentence, to end it all with."], "unpunctuated lines"),  # 1 of 9 is below 0.12
        ([*HEADINGS[:7], "A sentence, to end it all with."], ""),
        (["Short.", "Brief.", "A line that is no longer short, by any count."], ""),  # 2 of 3 is below 0.67
        (["Short.", "Brief.", "Terse.", "A line that is no longer short, by any count."], "short lines"),
        ([f"Line number {i}, which is as long as the others." for i in range(9)] * 2, "repeated lines"),
        (["これは長い文章です。" * 4, "二つ目の文章はここにあります。これも十分に長いと思います。多分そうです。"], ""),
        ([], ""),
    ],
)
def test_fineweb(lines: list[str], expected: str) -> None:
    assert reason(lambda: check_fineweb("\n\n".join(lines), FineWebSettings())) == expected
