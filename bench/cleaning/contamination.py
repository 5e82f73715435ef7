"""Evaluation questions planted in documents, and how many are found; and what is found where none was planted.

    python -m bench.cleaning.contamination DATA

`DATA` is the folder with `openqa/`, `msrp/`, `corpora/` and collections in BEIR's layout. Prints tables in Markdown.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datastore.cleaning.contamination import ContaminationFilter
from datastore.cleaning.questions import Question, read_questions
from datastore.cleaning.rephrased import Encode, RephrasedFilter
from datastore.cleaning.settings import ContaminationSettings, RephrasedSettings
from datastore.config import EncoderConfig
from datastore.encoders.registry import open_encoder
from datastore.sources.rejects import RefusedError

SETS = ("nq_test", "squad_dev_questions", "triviaqa_test")
PLANTED = 500
REPHRASED = 60
CLEAN = ("corpora/sysdocs_en", "scifact/corpus", "msmarco_dl_pool/corpus", "hotpotqa_sample/corpus", "xquad_en/corpus")

Check = Callable[[str], None]
Change = Callable[[str], str]


def main(data: Path) -> None:
    source = random.Random(4)  # noqa: S311 - to be the same each time
    questions = read_questions([str(data / "openqa" / f"{name}.jsonl.gz") for name in SETS])
    hosts = [record["text"][:3000] for record in read(data / "corpora" / "sysdocs_en.jsonl.gz")[::50]]
    sample = source.sample(questions, PLANTED)
    settings = ContaminationSettings(questions=("q",))
    by_run = ContaminationFilter(ContaminationSettings(questions=("q",), min_jaccard=0), questions).check
    whole_run = ContaminationFilter(
        ContaminationSettings(questions=("q",), run_share=1, min_jaccard=0), questions
    ).check
    by_both = ContaminationFilter(settings, questions).check
    encode = open_encoder(EncoderConfig()).encode_queries
    by_meaning = RephrasedFilter(RephrasedSettings(), questions, encode).check
    planting: list[tuple[str, Change]] = [
        ("verbatim", lambda text: text),
        ("without case and marks", lambda text: re.sub(r"[^\w\s]", " ", text).upper()),
        ("first or last 80%", lambda text: truncated(text, 0.8, source)),
        ("first or last 70%", lambda text: truncated(text, 0.7, source)),
        ("first or last 60%", lambda text: truncated(text, 0.6, source)),
        ("a word in the middle left out", without_middle),
        ("rephrased by rule", rephrased),
    ]
    say(f"{len(questions):,} questions, {PLANTED} of them planted, in the middle of documents of sysdocs_en:\n")
    say("| planted | whole question or 13 words | + 60% of it | + n-grams |")
    say("| --- | --- | --- | --- |")
    for name, change in planting:
        texts = [plant(source.choice(hosts), change(question.text), source) for question in sample]
        say(f"| {name} | " + " | ".join(f"{rate(texts, check):.3f}" for check in (whole_run, by_run, by_both)) + " |")
    say("\nNothing planted: share of documents refused\n")
    say("| collection | documents | whole or 13 words | + 60% | + n-grams | documents/s | + by embedding |")
    say("| --- | --- | --- | --- | --- | --- | --- |")
    for name in CLEAN:
        records = read(data / f"{name}.jsonl.gz")
        texts = [f"{record.get('title', '')}\n{record['text']}" for record in records[:: max(len(records) // 4000, 1)]]
        started = time.perf_counter()
        lexical = rate(texts, by_both)
        speed = len(texts) / (time.perf_counter() - started)
        few = texts[:: max(len(texts) // 40, 1)]
        shares = f"{rate(texts, whole_run):.4f} | {rate(texts, by_run):.4f} | {lexical:.4f} | {speed:,.0f}"
        say(f"| {name} | {len(texts):,} | {shares} | {rate(few, by_meaning):.3f} (of {len(few)}) |")
    say(f"\nBy embedding besides, the first {REPHRASED} of them:\n")
    say("| planted | n-grams and runs | by embedding | either |")
    say("| --- | --- | --- | --- |")
    for name, change in planting:
        texts = [plant(source.choice(hosts)[:800], change(question.text), source) for question in sample[:REPHRASED]]
        both = [(refused(text, by_both), refused(text, by_meaning)) for text in texts]
        figures = (sum(a for a, _ in both), sum(b for _, b in both), sum(a or b for a, b in both))
        say(f"| {name} | " + " | ".join(f"{figure / REPHRASED:.3f}" for figure in figures) + " |")
    paraphrases(data, encode, hosts, source)


def paraphrases(data: Path, encode: Encode, hosts: Sequence[str], source: random.Random) -> None:
    """MSRP: one sentence of a pair is the question, the other is planted; also of pairs that are no paraphrases."""
    pairs = read(data / "msrp" / "test.jsonl.gz")
    questions = [Question(pair["text1"], "msrp", line) for line, pair in enumerate(pairs, 1)]
    lexical = ContaminationFilter(ContaminationSettings(questions=("q",)), questions).check
    say("\nPairs of MSRP's test part, one sentence looked for, the other planted in a document:\n")
    say("| pairs | cosine | n-grams and runs | by embedding | either |")
    say("| --- | --- | --- | --- | --- |")
    for cosine in (0.8, 0.85, 0.9):
        meaning = RephrasedFilter(RephrasedSettings(min_cosine=cosine), questions, encode).check
        for label, name in ((1, "paraphrases"), (0, "alike, but no paraphrases")):
            chosen = [pair for pair in pairs if pair["label"] == label][:REPHRASED]
            texts = [plant(source.choice(hosts)[:300], pair["text2"], source) for pair in chosen]
            both = [(refused(text, lexical), refused(text, meaning)) for text in texts]
            figures = (sum(a for a, _ in both), sum(b for _, b in both), sum(a or b for a, b in both))
            shares = " | ".join(f"{figure / len(both):.3f}" for figure in figures)
            say(f"| {len(both)} {name} | {cosine} | {shares} |")


def rephrased(text: str) -> str:
    """By rule: the part after the question word first, which then asks at the end, and some words for others."""
    words = text.rstrip("?").split()
    for old, new in SYNONYMS.items():
        words = [new if word.casefold() == old else word for word in words]
    return " ".join([*words[2:], *words[:2]]) + "?" if len(words) > 4 else " ".join(words)


SYNONYMS = {
    "first": "earliest",
    "largest": "biggest",
    "film": "movie",
    "movie": "film",
    "wrote": "authored",
    "made": "created",
    "start": "begin",
    "started": "began",
    "country": "nation",
    "city": "town",
    "called": "named",
    "known": "referred to",
    "won": "was victorious in",
    "year": "date",
    "died": "passed away",
    "born": "given birth to",
    "famous": "well-known",
    "singer": "vocalist",
    "sang": "performed",
    "sings": "performs",
    "located": "situated",
    "use": "employ",
    "used": "employed",
    "many": "numerous",
    "main": "principal",
    "purpose": "aim",
    "kind": "sort",
    "type": "sort",
}


def truncated(text: str, share: float, source: random.Random) -> str:
    words = text.split()
    count = max(1, round(len(words) * share))
    return " ".join(words[:count] if source.random() < 0.5 else words[-count:])


def without_middle(text: str) -> str:
    words = text.split()
    del words[len(words) // 2]
    return " ".join(words)


def plant(host: str, text: str, source: random.Random) -> str:
    """As a sentence of its own, at a random place between sentences."""
    places = [match.end() for match in re.finditer(r"[.!?]\s", host)] or [len(host)]
    place = source.choice(places)
    return f"{host[:place]} {text}\n{host[place:]}"


def refused(text: str, check: Check) -> bool:
    try:
        check(text)
    except RefusedError:
        return True
    return False


def rate(texts: Sequence[str], check: Check) -> float:
    return sum(refused(text, check) for text in texts) / len(texts)


def read(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
