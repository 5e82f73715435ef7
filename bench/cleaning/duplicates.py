"""Near-duplicates found by MinHash, against an exact comparison of all pairs; and how fast.

    python -m bench.cleaning.duplicates DATA

`DATA` is the folder with `msrp/` and `corpora/`. Prints tables in Markdown.
"""

from __future__ import annotations

import gzip
import itertools
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datastore.cleaning.duplicates import find_duplicate_texts
from datastore.cleaning.minhash import SKETCH_SHINGLES, MinHash, choose_bands, jaccard, shingles
from datastore.cleaning.settings import DuplicateSettings
from datastore.cleaning.signatures import SignatureWriter
from datastore.cleaning.words import WordHasher, split_words
from datastore.documents import Document


def main(data: Path) -> None:
    say("| collection | documents | shingle | Jaccard | pairs, exactly | candidates | found | recall | precision |")
    say("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for parts, words, least in (
        (("test",), 1, 0.8),
        (("test",), 1, 0.6),
        (("train", "test"), 3, 0.8),
        (("train", "test"), 3, 0.5),
        (("train", "test"), 13, 0.8),
    ):
        sentences = sorted({pair[name] for pair in msrp(data, parts) for name in ("text1", "text2")})
        pairs(f"msrp, {' and '.join(parts)}", sentences, words, least)
    copies = near_copies(data)
    for least in (0.8, 0.6):
        pairs("made near-copies", copies, 13, least)
    say("")
    whole(data)


def msrp(data: Path, parts: Sequence[str]) -> list[dict[str, str]]:
    found = []
    for part in parts:
        with gzip.open(data / "msrp" / f"{part}.jsonl.gz", "rt") as lines:
            found += [json.loads(line) for line in lines]
    return found


def debian(data: Path) -> list[str]:
    with gzip.open(data / "corpora" / "debian_packages.jsonl.gz", "rt") as lines:
        return [json.loads(line)["text"] for line in lines]


def near_copies(data: Path) -> list[str]:
    """600 long descriptions, and of each four copies in which 0 to 8 words are replaced, dropped or doubled."""
    source = random.Random(13)  # noqa: S311 - to be the same each time
    long = sorted({text for text in debian(data) if len(text.split()) > 80})
    texts = []
    for text in source.sample(long, 600):
        texts.append(text)
        for _ in range(4):
            words = text.split()
            for _ in range(source.randrange(9)):
                place = source.randrange(len(words))
                words[place : place + 1] = source.choice([[], [f"other{place}"], [words[place]] * 2])
            texts.append(" ".join(words))
    return texts


def pairs(name: str, texts: Sequence[str], words: int, least: float) -> None:
    """One row: pairs of at least that similarity by plain sets of words, and by bands and sketches."""
    expected = set(exact_pairs(texts, words, least))
    bands = choose_bands(least, 128)
    hashing = MinHash(bands)
    hasher = WordHasher()
    sketches = [shingles(text, words, hasher)[:SKETCH_SHINGLES] for text in texts]
    keys = hashing.keys(np.array([hashing.minima(each) for each in sketches]))
    candidates = set(candidate_pairs(keys))
    found = {pair for pair in candidates if jaccard(sketches[pair[0]], sketches[pair[1]]) >= least}
    right = len(found & expected)
    recall, precision = right / max(len(expected), 1), right / max(len(found), 1)
    counts = f"{len(expected):,} | {len(candidates):,} | {len(found):,}"
    say(f"| {name} | {len(texts):,} | {words} words | {least} | {counts} | {recall:.4f} | {precision:.4f} |")


def candidate_pairs(keys: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    for column in keys.T:
        order = np.argsort(column, kind="stable")
        edges = np.flatnonzero(np.diff(column[order], prepend=column[order[0]] ^ np.uint64(1)) != 0)
        for start, end in itertools.pairwise([*edges.tolist(), len(order)]):
            yield from itertools.combinations(order[start:end].tolist(), 2)


def exact_pairs(texts: Sequence[str], words: int, least: float) -> Iterator[tuple[int, int]]:
    """By sets of tuples of words, without any hash: a pair needs a common shingle, so those are counted."""
    sets = []
    for text in texts:
        split = split_words(text)
        n = min(words, len(split))
        sets.append({tuple(split[i : i + n]) for i in range(len(split) - n + 1)} if split else set())
    holding: dict[tuple[str, ...], list[int]] = {}
    for number, each in enumerate(sets):
        common = Counter(other for shingle in each for other in holding.get(shingle, ()))
        for other, count in common.items():
            if count / (len(each) + len(sets[other]) - count) >= least:
                yield other, number
        for shingle in each:
            holding.setdefault(shingle, []).append(number)


def whole(data: Path) -> None:
    """All of debian_packages: what goes, and how long it takes."""
    texts = debian(data)
    settings = DuplicateSettings()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        writer = SignatureWriter(Path(folder, "task"), settings)
        for number, text in enumerate(texts):
            writer.add(Document(str(number), text))
        writer.finish()
        written = time.perf_counter()
        size = sum(path.stat().st_size for path in Path(folder, "task").iterdir())
        searched = find_duplicate_texts([Path(folder, "task")], settings, Path(folder, "work"))
        found = [of.duplicate(row) for of in searched for row in of.rows.tolist()]
        ended = time.perf_counter()
    exact = sum(duplicate.exact for duplicate in found)
    say(f"debian_packages: {len(texts):,} documents, {len(set(texts)):,} different texts.")
    say(f"Left out: {exact:,} exact and {len(found) - exact:,} near duplicates.")
    say(f"Signatures {len(texts) / (written - started):,.0f} documents/s, {size / len(texts):,.0f} bytes a document;")
    say(f"search {len(texts) / (ended - written):,.0f} documents/s.")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
