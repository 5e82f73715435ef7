"""Damaged inputs of every kind: each must end in documents, rejects or a clear error, in time, with the process alive.

    python -m bench.fuzz_inputs --cases 10000 --out bench/results/fuzz.md

A case takes a valid file, changes it by a generator seeded with the case's number, reads it whole and in pieces of a
few bytes, and chunks what came out. A child process works case by case; the parent counts what kills it or takes too
long.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import resource
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import zstandard

from bench.fuzz_files import files, pdf, warc_record
from datastore.chunking.registry import BY_TOKENS, open_chunker
from datastore.config import ChunkConfig, InputConfig
from datastore.encoders.hashing import HashingEncoder
from datastore.errors import PergamonError
from datastore.sources.admission import Admission
from datastore.sources.inputs import cut_inputs, read_piece
from datastore.sources.rejects import RefusedError, Rejects

CONFIG = InputConfig(max_document_bytes=1 << 20)
LIMIT_S = 30.0
_HOSTILE = (
    *(b"\0", b"\xff\xfe", b"\xed\xa0\x80", rb"\ud800", b'"', b"{", b"%"),
    *(b"[" * 5000, b"<div>" * 3000, b"\n" * 1000, b"9" * 5000),
)
_Mutation = Callable[[bytes, random.Random], bytes]


def _flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 20))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + rng.choice(_HOSTILE) * rng.choice((1, 1, 10)) + data[at:]


def _cut_out(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randrange(1, 64) :]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at : at + rng.randrange(1, 64)] * rng.choice((2, 100, 3000)) + data[at:]


def _number(data: bytes, rng: random.Random) -> bytes:
    """A length, an offset or a count, as far as bytes tell: a run of four becomes extreme."""
    at = rng.randrange(max(1, len(data) - 4))
    return data[:at] + rng.choice((b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0" * 4, b"\xff\xff\xff\x7f")) + data[at + 4 :]


def _random(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.choice((0, 4, 8))] + rng.randbytes(rng.randrange(1, 2000))


MUTATIONS: tuple[_Mutation, ...] = (_flip, _flip, _truncate, _insert, _cut_out, _repeat, _number, _random)


@cache
def _valid() -> dict[str, bytes]:
    return files()


@cache
def _bombs() -> dict[str, bytes]:
    """Much out of little, and one long thing where many short ones are usual."""
    zeros = b'{"text": "' + b"x" * (64 << 20) + b'"}\n{"text": "after"}\n'
    packed = gzip.compress(b"A" * (64 << 20))
    return {
        "bomb.jsonl.gz": gzip.compress(zeros),
        "bomb.jsonl.zst": zstandard.compress(zeros),
        "long.jsonl": b'{"text": "' + b"\xc3\xa9" * (4 << 20) + b'"}',
        "bomb.warc": warc_record("https://example.org/", packed, "text/plain", headers="Content-Encoding: gzip\r\n"),
        "deep.html": b"<div>" * 200_000,
        "wide.html": b"<p>x" * 200_000,
        "long.txt": b"x" * (1 << 20),
        "pages.pdf": pdf(("x",) * 2000),
        "brackets.jsonl": b"[" * (1 << 20),
    }


def case_file(number: int) -> tuple[str, bytes]:
    """Name and content of a case's file."""
    bombs = _bombs()
    if number < len(bombs):
        return list(bombs.items())[number]
    rng = random.Random(number)  # noqa: S311  (reproducible, no secret)
    name, data = rng.choice(list(_valid().items()))
    packs: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
        ".gz": (gzip.decompress, lambda plain: gzip.compress(plain, mtime=0)),
        ".zst": (zstandard.decompress, zstandard.compress),
    }
    pack = packs.get(Path(name).suffix)
    if pack and rng.random() < 0.5:  # damage inside a sound archive
        return name, pack[1](_mutated(pack[0](data), rng))
    if rng.random() < 0.05:  # one kind under the name of another
        return rng.choice(list(_valid())), data
    return name, _mutated(data, rng)


def _mutated(data: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = rng.choice(MUTATIONS)(data, rng) or b"\0"
    return data


def run_case(number: int, folder: Path) -> str:
    """Read and chunk the file of a case; say how it ended: `documents`, `rejects`, `nothing` or the error's class."""
    name, content = case_file(number)
    path = folder / name
    path.write_bytes(content)
    chunkers = [open_chunker(ChunkConfig(chunker=kind, tokens=32), HashingEncoder().count_tokens) for kind in BY_TOKENS]  # type: ignore[arg-type]
    seen: list[tuple[int, int]] = []
    try:
        for target in (1 << 30, 100):
            documents = rejected = 0
            admission = Admission()
            with Rejects(folder / "rejects") as rejects:
                for piece in cut_inputs([str(path)], target):
                    for found in read_piece(piece, rejects, CONFIG):
                        try:
                            admission.check(found.document)
                        except RefusedError:
                            rejected += 1
                            continue
                        documents += 1
                        if target == 100 and len(found.document.text) < 1 << 16:
                            for passage in chunkers[number % len(chunkers)](found.document):
                                assert found.document.text[passage.start : passage.end] == passage.text
            seen.append((documents, rejected + rejects.total))
    except PergamonError as error:
        return type(error).__name__ if error.problem and error.mend else "crash: an error without words"
    finally:
        path.unlink()
    documents, rejected = seen[0]
    assert documents == seen[1][0], f"{documents} documents whole, {seen[1][0]} in pieces"
    return "documents" if documents else "rejects" if rejected else "nothing"


@dataclass(frozen=True, slots=True)
class Outcome:
    case: int
    kind: str
    end: str
    seconds: float
    peak_mb: float


def campaign(cases: Sequence[int], limit_s: float = LIMIT_S) -> Iterator[Outcome]:
    """The outcome of each case, in order; `crash: …` and `hang` where the child did not live to tell."""
    remaining = list(cases)
    while remaining:
        command = [sys.executable, "-m", "bench.fuzz_inputs", "--child", json.dumps([remaining[0], remaining[-1] + 1])]
        with (
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child,  # noqa: S603
            selectors.DefaultSelector() as selector,
        ):
            assert child.stdout is not None
            selector.register(child.stdout, selectors.EVENT_READ)
            while remaining:
                ready = selector.select(limit_s + 20)  # with its start
                line = child.stdout.readline() if ready else b""
                case = remaining.pop(0)
                if line:
                    yield Outcome(**json.loads(line))
                    continue
                child.kill()
                _, complaint = child.communicate()
                last = (complaint.decode(errors="replace").strip().splitlines() or [f"status {child.returncode}"])[-1]
                yield Outcome(case, Path(case_file(case)[0]).suffix, f"crash: {last}" if ready else "hang", limit_s, 0)
                break
            else:
                child.communicate()


def _child(first: int, stop: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, stop):
            started = time.monotonic()
            end = run_case(number, Path(folder))
            outcome = {
                "case": number,
                "kind": "".join(Path(case_file(number)[0]).suffixes),
                "end": end,
                "seconds": time.monotonic() - started,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
            sys.stdout.write(json.dumps(outcome) + "\n")
            sys.stdout.flush()


def report(outcomes: Sequence[Outcome]) -> str:
    by_kind: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        by_kind[outcome.kind][outcome.end.partition(":")[0]] += 1
    ends = sorted({end for counts in by_kind.values() for end in counts})
    bad = [outcome for outcome in outcomes if outcome.end.startswith(("crash", "hang"))]
    peak = max(outcome.peak_mb for outcome in outcomes)
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    lines = [
        "# Damaged inputs",
        "",
        f"`python -m bench.fuzz_inputs --cases {len(outcomes)}`: each case is a valid file, changed by a generator",
        "and read whole and in small pieces, with what came out chunked. The first few are bombs: 64 MiB of little,",
        "against a limit of 1 MiB.",
        "",
        f"{len(outcomes)} cases, {len(bad)} crashed or hung (limit {LIMIT_S:g} s each). The slowest, {slowest.case}",
        f"({slowest.kind}), took {slowest.seconds:.1f} s; the process took {peak:.0f} MB at most.",
        "",
        "| kind | " + " | ".join(ends) + " |",
        "| --- |" + " --- |" * len(ends),
        *(
            f"| {kind} | " + " | ".join(str(counts[end]) for end in ends) + " |"
            for kind, counts in sorted(by_kind.items())
        ),
        "",
        "`documents`: at least one could be read; `rejects`: all was refused, with reasons; `nothing`: what is left is",
        "empty; the others are errors that say what is wrong and how to mend it.",
        *(f"\ncase {outcome.case} ({outcome.kind}): {outcome.end}" for outcome in bad),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where the report goes, beside standard output")
    parser.add_argument("--log", type=Path, help="outcomes are added to this file, and all that it has are reported")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        _child(*json.loads(arguments.child))
        return
    outcomes: list[Outcome] = []
    if arguments.log and arguments.log.exists():
        outcomes = [Outcome(**json.loads(line)) for line in arguments.log.read_bytes().splitlines()]
    for outcome in campaign(range(arguments.first, arguments.first + arguments.cases)):
        outcomes.append(outcome)
        if arguments.log:
            with arguments.log.open("a") as log:
                log.write(json.dumps(asdict(outcome)) + "\n")
        if outcome.end.startswith(("crash", "hang")):
            sys.stderr.write(f"{outcome}\n")
    text = report(outcomes)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    sys.exit(any(outcome.end.startswith(("crash", "hang")) for outcome in outcomes))


if __name__ == "__main__":
    main()
