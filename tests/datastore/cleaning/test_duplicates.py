"""Duplicates over tasks, against a comparison of all pairs."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import datastore.cleaning.duplicates as duplicates_module
from datastore.cleaning.duplicates import Duplicate, find_duplicate_texts
from datastore.cleaning.settings import DuplicateSettings
from datastore.cleaning.signatures import SignatureWriter
from datastore.documents import Document
from tests.open_files import may_open

SETTINGS = DuplicateSettings(shingle_words=3)


def found(
    folder: Path,
    tasks: Sequence[Sequence[Document]],
    settings: DuplicateSettings,
    excluded: Sequence[Sequence[int]] = (),
) -> list[list[Duplicate]]:
    folders = []
    for number, documents in enumerate(tasks):
        writer = SignatureWriter(folder / str(number), settings)
        for document in documents:
            writer.add(document)
        writer.finish()
        folders.append(folder / str(number))
    out = (
        [np.isin(np.arange(len(documents)), rows) for documents, rows in zip(tasks, excluded, strict=True)]
        if excluded
        else ()
    )
    searched = find_duplicate_texts(folders, settings, folder / "work", out)
    return [list(map(of_task.duplicate, of_task.rows.tolist())) for of_task in searched]


def left_out(
    folder: Path, tasks: Sequence[Sequence[Document]], settings: DuplicateSettings = SETTINGS
) -> dict[str, str]:
    """Document id -> id of the one that stays."""
    earlier = {
        documents[duplicate.row].document_id: duplicate.earlier_id
        for documents, duplicates in zip(tasks, found(folder, tasks, settings), strict=True)
        for duplicate in duplicates
    }
    return {gone: earlier.get(like, like) for gone, like in earlier.items()}


def documents(*texts: str) -> list[Document]:
    return [Document(f"d{i}", text) for i, text in enumerate(texts)]


def plain_shingles(text: str, n: int) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[i : i + n]) for i in range(max(len(words) - n + 1, 1))}


def plain_jaccard(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> float:
    return len(one & other) / len(one | other)


def all_pairs(texts: Sequence[str], n: int, least: float) -> dict[str, str]:
    """The same by comparing all, and joining what is similar."""
    sets = [plain_shingles(text, n) for text in texts]
    parents = list(range(len(texts)))

    def root(i: int) -> int:
        while parents[i] != i:
            i = parents[i]
        return i

    for i, j in itertools.combinations(range(len(texts)), 2):
        if plain_jaccard(sets[i], sets[j]) >= least:
            one, other = sorted((root(i), root(j)))
            parents[other] = one
    return {f"d{i}": f"d{root(i)}" for i in range(len(texts)) if root(i) != i}


@pytest.fixture(scope="module")
def near_copies() -> list[str]:
    source = random.Random(7)
    texts = []
    for _ in range(60):
        words = [f"w{source.randrange(10_000)}" for _ in range(source.randrange(20, 120))]
        texts.append(" ".join(words))
        for _ in range(source.randrange(4)):
            changed = list(words)
            for _ in range(source.randrange(4)):
                changed[source.randrange(len(changed))] = f"x{source.randrange(10_000)}"
            texts.append(" ".join(changed))
    source.shuffle(texts)
    return texts


@pytest.mark.parametrize("cuts", [[], [1], [50, 100], [0, 3, 3, 90]])
def test_near_copies_against_all_pairs_whatever_the_tasks(
    tmp_path: Path, near_copies: list[str], cuts: list[int]
) -> None:
    expected = all_pairs(near_copies, 3, 0.8)
    assert len(expected) > 20
    everything = documents(*near_copies)
    bounds = [0, *cuts, len(everything)]
    tasks = [everything[start:end] for start, end in itertools.pairwise(bounds)]
    assert left_out(tmp_path, tasks) == expected


def test_ranges_of_keys_give_the_same(tmp_path: Path, near_copies: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates_module, "_MERGED_ROWS", 7)
    assert left_out(tmp_path, [documents(*near_copies)]) == all_pairs(near_copies, 3, 0.8)


def test_more_tasks_than_files_may_be_open(
    tmp_path: Path, near_copies: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates_module, "_OPEN_TASKS", 4)
    with may_open(45):
        tasks = [[document] for document in documents(*near_copies[:30])]
        assert left_out(tmp_path, tasks, DuplicateSettings(shingle_words=3, permutations=64)) == all_pairs(
            near_copies[:30], 3, 0.8
        )


def test_exact_ones_are_equal_character_by_character(tmp_path: Path) -> None:
    tasks = [documents("Two words", "two words", "Two words", "Two  words", "", "Two words")]
    exact = DuplicateSettings(near=False)
    assert left_out(tmp_path / "a", tasks, exact) == {"d2": "d0", "d5": "d0"}
    near = DuplicateSettings(exact=False)
    assert left_out(tmp_path / "b", tasks, near) == {"d1": "d0", "d2": "d0", "d3": "d0", "d5": "d0"}


def test_what_is_reported(tmp_path: Path) -> None:
    text = " ".join(f"w{i}" for i in range(30))
    (same,) = found(tmp_path, [documents(text, text, text + " more")], SETTINGS)
    assert same == [Duplicate(1, True, "d0", 1.0), Duplicate(2, False, "d0", 28 / 29)]
    assert [(each.refusal().reason, each.refusal().detail) for each in same] == [
        ("exact duplicate", "the text of the document 'd0', which came before"),
        ("near duplicate", "Jaccard 0.97 with the document 'd0', which came before"),
    ]


def test_texts_shorter_than_a_shingle_are_whole_or_other(tmp_path: Path) -> None:
    tasks = [documents("A short text.", "a SHORT text", "a short text more", "...", "!!!")]
    assert left_out(tmp_path, tasks, DuplicateSettings()) == {"d1": "d0"}


def test_documents_without_text_are_compared_by_title(tmp_path: Path) -> None:
    tasks = [
        [Document("a", "", "One"), Document("b", " ", "Two"), Document("c", "", "One"), Document("d", "x y z", "One")]
    ]
    assert left_out(tmp_path, tasks) == {"c": "a"}


def test_joined_by_way_of_others(tmp_path: Path) -> None:
    words = [f"w{i}" for i in range(40)]
    chain = [" ".join(words[i : i + 30]) for i in (0, 2, 4)]
    sets = [plain_shingles(text, 3) for text in chain]
    assert plain_jaccard(sets[0], sets[2]) < 0.8 <= plain_jaccard(sets[0], sets[1])
    assert left_out(tmp_path, [documents(*chain)]) == {"d1": "d0", "d2": "d0"}


def test_what_is_left_out_anyway_stands_for_nobody(tmp_path: Path) -> None:
    text = " ".join(f"w{i}" for i in range(30))
    tasks = [documents(text, text), documents(text, text + " more")]
    result = found(tmp_path, tasks, SETTINGS, [[0], []])
    assert result == [[], [Duplicate(0, True, "d1", 1.0), Duplicate(1, False, "d1", 28 / 29)]]


def test_nothing_and_nothing_left_behind(tmp_path: Path) -> None:
    assert found(tmp_path, [], SETTINGS) == []
    assert found(tmp_path, [[], []], SETTINGS) == [[], []]
    assert list((tmp_path / "work").iterdir()) == []


def test_a_crowd_under_one_key_is_bounded(tmp_path: Path) -> None:
    """2,000 documents of which each has the same half: none is a duplicate, and not all pairs are compared."""
    common = " ".join(f"c{i}" for i in range(40))
    crowd = [f"{common} " + " ".join(f"x{i}-{j}" for j in range(30)) for i in range(2000)]
    assert left_out(tmp_path, [documents(*crowd)]) == {}


DATA = Path(os.environ.get("PERGAMON_DATA", "/nowhere"))


@pytest.mark.skipif(not (DATA / "msrp").exists(), reason="PERGAMON_DATA has no msrp")
@pytest.mark.parametrize(("words", "least"), [(1, 0.6), (3, 0.4)])
def test_msrp_against_all_pairs(tmp_path: Path, words: int, least: float) -> None:
    with gzip.open(DATA / "msrp" / "test.jsonl.gz", "rt") as lines:
        pairs = [json.loads(line) for line in itertools.islice(lines, 300)]
    texts = sorted({pair[name] for pair in pairs for name in ("text1", "text2")})
    plain = [
        " ".join("".join(c if c.isalnum() or c == "_" else " " for c in text.casefold()).split()) for text in texts
    ]
    expected = all_pairs(plain, words, least)
    assert len(expected) > 20
    settings = DuplicateSettings(shingle_words=words, min_jaccard=least, permutations=256)
    assert left_out(tmp_path, [documents(*texts)], settings) == expected


@pytest.mark.skipif(not (DATA / "corpora").exists(), reason="PERGAMON_DATA has no corpora")
def test_debian_packages_lose_every_exact_duplicate(tmp_path: Path) -> None:
    with gzip.open(DATA / "corpora" / "debian_packages.jsonl.gz", "rt") as lines:
        records = [json.loads(line) for line in lines]
    everything = documents(*(record["text"] for record in records))
    third = len(everything) // 3
    tasks = [everything[:third], everything[third : 2 * third], everything[2 * third :]]
    gone = left_out(tmp_path, tasks, DuplicateSettings(near=False))
    first: dict[str, str] = {}
    expected = {}
    for document in everything:
        if first.setdefault(document.text, document.document_id) != document.document_id:
            expected[document.document_id] = first[document.text]
    assert len(expected) > 1000
    assert gone == expected
