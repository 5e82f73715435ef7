"""What every chunker keeps to: nothing lost, nothing twice without overlap, exact offsets, sizes within bounds.

A new chunker joins by an entry in the registry.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from datastore.chunking.registry import BY_TOKENS, Chunker, open_chunker
from datastore.chunking.spans import CHARACTERS_PER_UNIT, rejoin
from datastore.chunking.words import chunk_words
from datastore.cleaning.words import split_words
from datastore.config import ChunkConfig, EncoderConfig, load_config
from datastore.documents import Document, Passage
from datastore.encoders.registry import Encoder, open_encoder
from datastore.errors import InvalidArgument

NAMES = ("words", *BY_TOKENS)
CHARACTERS = st.one_of(st.sampled_from("ab. \n\t\u3000\u2028\x1c\u200b漢é😀#*`-!?"), st.characters())
TEXTS = st.one_of(
    st.text(CHARACTERS),
    st.lists(st.text("xyé", max_size=70), max_size=60).map(" ".join),
    st.lists(st.text("abc ", max_size=40).map(lambda line: line.capitalize() + ". "), max_size=20).map("".join),
    st.lists(
        st.sampled_from(["# One\n", "two three. Four!\n\n", "- item\n", "```\ncode  \n```\n", "|a|b|\n|-|-|\n"])
    ).map("".join),
)


@cache
def encoder() -> Encoder:
    return open_encoder(EncoderConfig(name="hashing"))


@cache
def minilm() -> Encoder:
    return open_encoder(EncoderConfig())


def chunker(name: str, size: int, overlap: int = 0) -> Chunker:
    tokens = None if name == "words" else size
    return open_chunker(ChunkConfig(words=size, chunker=name, tokens=tokens, overlap=overlap), count_parts)  # type: ignore[arg-type]


def count_parts(texts: list[str]) -> list[int]:
    """A tokenizer whose words have several tokens, of at most three letters each, and which adds two marks."""
    return [2 + len(re.findall(r"\S{1,3}", text)) for text in texts]


def chunks(chunk: Chunker, text: str, title: str = "") -> list[Passage]:
    return list(chunk(Document("d", text, title, "s", {"lang": "en"})))


def without_space(text: str) -> str:
    return "".join(text.split())


def size_of(name: str, passage: Passage) -> int:
    if name == "words":
        return len(passage.text.split())
    return count_parts([passage.text])[0] - 2


def test_every_chunker_of_the_settings_is_here() -> None:
    assert set(get_args(ChunkConfig.__annotations__["chunker"]) or NAMES) == set(NAMES)
    for name in NAMES:
        assert load_config(None, {"chunk": {"chunker": name}}).chunk.chunker == name


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None)
@given(text=TEXTS, size=st.integers(8, 20))
@example(text="\x1f", size=8)  # white space to Python, not to Rust
def test_nothing_is_lost_or_twice_and_offsets_point_back(name: str, text: str, size: int) -> None:
    passages = chunks(chunker(name, size), text)
    assert "".join(without_space(passage.text) for passage in passages) == without_space(text)
    assert split_words(rejoin(passages)) == split_words(text)
    end = 0
    for index, passage in enumerate(passages):
        assert passage.chunk_index == index
        assert end <= passage.start < passage.end
        end = passage.end
        assert passage.text == text[passage.start : passage.end] == passage.text.strip()
        assert size_of(name, passage) <= size
        assert len(passage.text) <= size * CHARACTERS_PER_UNIT


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None)
@given(text=TEXTS, size=st.integers(8, 20), overlap=st.integers(1, 4))
def test_with_overlap_every_character_is_in_a_passage(name: str, text: str, size: int, overlap: int) -> None:
    passages = chunks(chunker(name, size, overlap), text)
    covered = bytearray(len(text))
    start = end = -1
    for passage in passages:
        assert passage.text == text[passage.start : passage.end] == passage.text.strip()
        assert passage.start > start
        assert passage.end > end  # each brings something new
        if passage.start < end:
            common = Passage("d", 0, text[passage.start : end], "", "", 0, 0)
            assert size_of(name, common) <= overlap + (name in ("sentences", "structure"))
        start, end = passage.start, passage.end
        covered[start:end] = b"\1" * (end - start)
        assert size_of(name, passage) <= size
    assert split_words(rejoin(passages)) == split_words(text)
    assert all(mark or character.isspace() for mark, character in zip(covered, text, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_the_document_s_fields_come_along_and_a_title_alone_is_a_passage(name: str) -> None:
    (passage,) = chunks(chunker(name, 8), " one two\n", "Title")
    assert (passage.text, passage.start, passage.end) == ("one two", 1, 8)
    assert (passage.document_id, passage.title, passage.source, passage.attributes) == (
        "d",
        "Title",
        "s",
        {"lang": "en"},
    )
    for text in ("", " \n\u3000"):
        (passage,) = chunks(chunker(name, 8), text, "Only a title")
        assert (passage.text, passage.start, passage.end) == ("", 0, 0)
        assert chunks(chunker(name, 8), text, " ") == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "text",
    [
        "x" * 300_000,
        "漢字。" * 100_000,
        "a b. " * 60_000,
        "# h\n\n" * 60_000,
        " " * 300_000 + "x",
        "[" * 60_000,
        "> " * 60_000,
    ],
    ids=["word", "chinese", "sentences", "headings", "space", "brackets", "quotes"],
)
def test_large_and_strange_texts_come_whole(name: str, text: str) -> None:
    passages = chunks(chunker(name, 256), text)
    assert "".join(without_space(passage.text) for passage in passages) == without_space(text)
    assert max(len(passage.text) for passage in passages) <= 256 * CHARACTERS_PER_UNIT


@pytest.mark.parametrize("name", BY_TOKENS)
def test_sizes_are_the_encoder_s_own(name: str) -> None:
    text = " ".join(chunk_words.__doc__ or "" for _ in range(20))
    chunk = open_chunker(ChunkConfig(chunker=name, tokens=64), minilm().count_tokens)  # type: ignore[arg-type]
    counted = minilm().count_tokens([passage.text for passage in chunks(chunk, text)])
    assert max(counted) - 2 <= 64  # less the two marks around a text
    assert sum(counted) / len(counted) > 40


@pytest.mark.parametrize("name", BY_TOKENS)
@pytest.mark.parametrize("overlap", [0, 4])
def test_words_that_are_cut_have_no_more_tokens_than_allowed(name: str, overlap: int) -> None:
    text = "'bbf4aa301\"),' supercalifragilistic" * 60 + "日本語の文章、" * 40
    chunk = open_chunker(ChunkConfig(chunker=name, tokens=8, overlap=overlap), minilm().count_tokens)  # type: ignore[arg-type]
    passages = chunks(chunk, text)
    assert max(minilm().count_tokens([passage.text for passage in passages])) - 2 <= 8
    assert [passage.start for passage in passages] == sorted({passage.start for passage in passages})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ["a" * 50_000, ("b" * 120 + "\n") * 400], ids=["one word", "lines of one word"])
def test_an_overlap_repeats_no_more_than_its_share_of_long_words(name: str, text: str) -> None:
    """WordPiece has one token for a word of any length above a hundred characters."""
    tokens = None if name == "words" else 256
    chunk = open_chunker(ChunkConfig(chunker=name, tokens=tokens, overlap=64), minilm().count_tokens)  # type: ignore[arg-type]
    assert sum(len(passage.text) for passage in chunks(chunk, text)) < 1.5 * len(text)


def test_the_four_on_one_text() -> None:
    text = "# Cats\n\nCats sleep. They sleep a lot.\n\n# Dogs\n\nDogs bark at night. Nobody sleeps then."
    found = {name: [passage.text for passage in chunks(chunker(name, 16), text)] for name in NAMES}
    sections = ["# Cats\n\nCats sleep. They sleep a lot.", "# Dogs\n\nDogs bark at night. Nobody sleeps then."]
    assert found == {
        "words": ["# Cats\n\nCats sleep. They sleep a lot.\n\n# Dogs\n\nDogs bark at night. Nobody sleeps", "then."],
        "tokens": ["# Cats\n\nCats sleep. They sleep a lot.\n\n#", "Dogs\n\nDogs bark at night. Nobody sleeps then."],
        "sentences": sections,
        "structure": sections,
    }


@pytest.mark.parametrize("name", NAMES)
def test_an_overlap_of_more_than_half_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"the overlap is 33; of 64 .* at most 32 can overlap"):
        load_config(None, {"chunk": {"chunker": name, "words" if name == "words" else "tokens": 64, "overlap": 33}})


def test_tokens_without_a_chunker_that_counts_them_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="tokens are for the chunkers tokens, sentences and structure"):
        load_config(None, {"chunk": {"tokens": 64}})


def test_words_are_counted_once() -> None:
    asked: list[str] = []

    def count(texts: list[str]) -> list[int]:
        asked.extend(texts)
        return count_parts(texts)

    chunk: Callable[[Document], object] = open_chunker(ChunkConfig(chunker="tokens"), count)  # type: ignore[arg-type]
    for _ in range(2):
        list(chunk(Document("d", "one two one three two")))  # type: ignore[call-overload]
    assert asked == ["", "one", "two", "three"]
