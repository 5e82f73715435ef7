"""Queries and judgments of a BEIR folder."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datastore.errors import InvalidArgument, NotFound


@dataclass(frozen=True, slots=True)
class Judged:
    """The judged queries of one split."""

    queries: dict[str, str]
    """Query id -> text: those that have judgments."""
    qrels: dict[str, dict[str, int]]
    """Query id -> document id -> relevance."""


def read_judged(folder: Path, split: str) -> Judged:
    """Read `queries.jsonl` (or `.gz`) and `qrels/SPLIT.tsv` of a BEIR folder.

    Raises:
        NotFound: the folder or one of the files is not there.
        InvalidArgument: a line is malformed, or a judged query has no text.
    """
    qrels = _read_qrels(folder, split)
    texts = dict(_read_queries(folder))
    missing = [query_id for query_id in qrels if query_id not in texts]
    if missing:
        raise InvalidArgument(
            f"{folder}: {len(missing)} judged queries are not in queries.jsonl, the first is {missing[0]!r}",
            mend="give the queries and the judgments of one collection",
        )
    return Judged({query_id: texts[query_id] for query_id in qrels}, qrels)


def _read_queries(folder: Path) -> Iterator[tuple[str, str]]:
    path = next((p for p in (folder / "queries.jsonl", folder / "queries.jsonl.gz") if p.is_file()), None)
    if path is None:
        raise NotFound(f"{folder} holds no queries.jsonl", mend="give a BEIR folder")
    for number, line in _lines(path):
        try:
            record = json.loads(line)
            yield str(record["_id"]), str(record["text"])
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidArgument(
                f"{path} line {number} is not an object with _id and text: {error!r}", mend="mend the line"
            ) from None


def _read_qrels(folder: Path, split: str) -> dict[str, dict[str, int]]:
    path = folder / "qrels" / f"{split}.tsv"
    if not path.is_file():
        splits = sorted(p.stem for p in (folder / "qrels").glob("*.tsv"))
        raise NotFound(
            f"{folder} has no judgments qrels/{split}.tsv; there are {', '.join(splits) or 'none'}",
            mend="name another --split, or give a BEIR folder",
            field="split",
        )
    qrels: dict[str, dict[str, int]] = {}
    for number, line in _lines(path):
        fields = line.rstrip("\r\n").split("\t")
        if number == 1 and not fields[-1].lstrip("-").isdigit():
            continue  # the header
        try:
            query_id, document_id, relevance = fields
            qrels.setdefault(query_id, {})[document_id] = int(relevance)
        except ValueError:
            raise InvalidArgument(
                f"{path} line {number} is {line.strip()!r}; wanted query id, document id and a whole number, with tabs",
                mend="mend the line",
            ) from None
    if not qrels:
        raise InvalidArgument(f"{path} has no judgments", mend="name another --split")
    return qrels


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers from 1."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InvalidArgument(f"{path} cannot be read as UTF-8 text: {error}", mend="mend the file") from None
