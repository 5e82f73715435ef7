"""`pergamon build`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import get_args

import typer
from rich.markup import escape
from rich.table import Table

from datastore.ann.memory import index_bytes
from datastore.array_job import build_share, publish_build
from datastore.build import build as build_datastore
from datastore.build_report import make_report_folder, write_report
from datastore.cleaning.settings import PersonalKind
from datastore.config import load_config
from datastore.devices import parse_device
from datastore.errors import InvalidArgument
from datastore.store.manifest import Manifest
from datastore.tasks.executors import Execution
from datastore.tasks.stages import Stage
from pergamon import options
from pergamon.build_progress import shown_progress
from pergamon.output import ERRORS, human_bytes, print_json, to_plain

EXAMPLES = """
**Examples**

`pergamon build --input notes/ --store my.store`

`pergamon build --input corpus.jsonl.zst --store my.store --chunk-words 128`

`pergamon build --input corpus.jsonl.zst --store my.store --index-memory 2GiB`

`pergamon build --input s3://corpora/web/ --store web.store --chunker structure --chunk-tokens 200`

`pergamon build --input hf:allenai/c4:en@validation --store c4.store`

`pergamon build --input crawl.jsonl.zst --store my.store --keep-language en --deduplicate near`

`pergamon build --input crawl/ --store my.store --workers 8 --cache vectors/ --report report/`

`pergamon build --input crawl/ --store my.store --task $SLURM_ARRAY_TASK_ID/32`, then `pergamon publish my.store`

`pergamon build --input pydoc: --store py.store --encoder BAAI/bge-small-en-v1.5 --device cuda`
"""

PUBLISH_EXAMPLES = """
**Examples**

`pergamon publish my.store`

`pergamon publish my.store --workers 8 --report report/`
"""
MAX_SHARES = 65_536


class IndexKind(StrEnum):
    """What `--index` takes."""

    AUTO = "auto"
    FLAT = "flat"
    IVF_PQ = "ivf-pq"
    IVF_PQ4 = "ivf-pq4"
    IVF_RABITQ = "ivf-rabitq"


class Chunker(StrEnum):
    """What `--chunker` takes."""

    WORDS = "words"
    TOKENS = "tokens"
    SENTENCES = "sentences"
    STRUCTURE = "structure"


class Deduplicate(StrEnum):
    """What `--deduplicate` takes."""

    EXACT = "exact"
    NEAR = "near"


class Executor(StrEnum):
    """What `--executor` takes."""

    LOCAL = "local"
    RAY = "ray"


_WORKERS = typer.Option(
    None, "--workers", help="Processes that share the work (default: this one alone, with all its threads)."
)
_THREADS = typer.Option(None, "--threads", help="Threads of each worker (default 1); vectors depend on them.")
_CACHE = typer.Option(None, "--cache", help="A folder that keeps vectors, so that no passage is encoded twice.")


def build(
    inputs: list[str] = typer.Option(
        ..., "--input", help="A file, a folder, a URL, `hf:NAME` or `pydoc:`; repeatable."
    ),
    store: Path = typer.Option(..., "--store", help="The folder to make."),
    config: Path | None = typer.Option(None, "--config", help="A TOML file of settings; options override it."),
    encoder: str | None = typer.Option(
        None, "--encoder", help="all-minilm-l6-v2 (default), hashing, a hub name or a path."
    ),
    chunk_words: int | None = typer.Option(
        None, "--chunk-words", help="Words in a passage at most (default 256); 0 keeps documents whole."
    ),
    chunker: Chunker | None = typer.Option(None, "--chunker", help="What passages are made of (default words)."),
    chunk_tokens: int | None = typer.Option(
        None, "--chunk-tokens", help="The encoder's tokens in a passage at most, for the other chunkers (default 256)."
    ),
    chunk_overlap: int | None = typer.Option(
        None, "--chunk-overlap", help="Words or tokens that a passage shares with the one before it (default 0)."
    ),
    text_field: str | None = typer.Option(None, "--text-field", help="Field or column of the text (default text)."),
    id_field: str | None = typer.Option(None, "--id-field", help="Field or column of the id (default _id, else id)."),
    title_field: str | None = typer.Option(None, "--title-field", help="Field or column of the title (default title)."),
    index: IndexKind | None = typer.Option(None, "--index", help="Kind of ANN index (default auto)."),
    index_memory: str | None = typer.Option(
        None, "--index-memory", help="Memory that the open index may take, as 2GiB; the index is chosen to fit."
    ),
    executor: Executor = typer.Option(
        Executor.LOCAL, "--executor", help="Where the work is done: on this machine, or on a Ray cluster."
    ),
    workers: int | None = _WORKERS,
    threads: int | None = _THREADS,
    cache: Path | None = _CACHE,
    task: str | None = typer.Option(
        None, "--task", help="As I/N, from 0/N on: do one share of the work, as an element of an array job."
    ),
    report: Path | None = typer.Option(None, "--report", help="A folder for a report on the build, with plots."),
    query_prompt: str | None = typer.Option(
        None, "--query-prompt", help="Put before every query (default: the model's)."
    ),
    passage_prompt: str | None = typer.Option(None, "--passage-prompt", help="Put before every passage."),
    bm25_k1: float | None = typer.Option(None, "--bm25-k1", help="BM25's k1 (default 0.9)."),
    bm25_b: float | None = typer.Option(None, "--bm25-b", help="BM25's b (default 0.4)."),
    analyzer: str | None = typer.Option(None, "--analyzer", help="How BM25 makes terms of text (default english)."),
    segment_passages: int | None = typer.Option(None, "--segment-passages", help="Passages in a segment at most."),
    max_rejected_share: float | None = typer.Option(
        None, "--max-rejected-share", help="Fail when more than this share of the input is rejected (default 0.1)."
    ),
    keep_language: list[str] | None = typer.Option(
        None, "--keep-language", help="Leave out documents in other languages than these (ISO 639-1: en)."
    ),
    deduplicate: Deduplicate | None = typer.Option(
        None, "--deduplicate", help="Leave out documents with the text of an earlier one, or nearly so."
    ),
    decontaminate: list[str] | None = typer.Option(
        None, "--decontaminate", help="A file of questions (JSON Lines, .txt); leave out documents that hold one."
    ),
    mask_personal: bool = typer.Option(
        False, "--mask-personal", help="Put tags in the place of e-mail addresses, phone numbers and the like."
    ),
    device: options.Device = "auto",
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Build a datastore from text."""
    settings = load_config(
        config,
        {
            "chunk": {
                "words": chunk_words,
                "chunker": chunker.value if chunker else None,
                "tokens": chunk_tokens,
                "overlap": chunk_overlap,
            },
            "encoder": {"name": encoder, "query_prompt": query_prompt, "passage_prompt": passage_prompt},
            "index": {"kind": index.value if index else None, "memory": index_memory},
            "bm25": {"k1": bm25_k1, "b": bm25_b, "analyzer": analyzer},
            "segment": {"passages": segment_passages},
            "input": {
                "max_rejected_share": max_rejected_share,
                "text_field": text_field,
                "id_field": id_field,
                "title_field": title_field,
            },
            "clean": {
                "language": {"keep": keep_language or None},
                "duplicates": {"exact": True, "near": deduplicate is Deduplicate.NEAR} if deduplicate else None,
                "contamination": {"questions": decontaminate or None},
                "personal": {"mask": get_args(PersonalKind)} if mask_personal else None,
            },
        },
    )
    chosen = parse_device(device)
    share = _parse_share(task) if task is not None else None
    if share is not None:
        _refuse_beside_task(executor, workers, threads, report)
    if report is not None:
        make_report_folder(report)
    execution = Execution(executor.value, workers, threads, cache)
    started = time.monotonic()
    with _told_if_interrupted("the same command"), shown_progress() as show:
        if share is not None:
            waits_for = build_share(inputs, store, settings, share, show, cache=cache, device=chosen, on_note=_note)
        else:
            manifest = build_datastore(inputs, store, settings, show, device=chosen, execution=execution, on_note=_note)
    if share is not None:
        _report_share(store, share, waits_for, as_json)
        return
    if report is not None:
        write_report(store, report)
    _report(store, manifest, time.monotonic() - started, as_json)


def publish(
    store: Path = typer.Argument(..., help="The folder that the shares of the build were made in."),
    executor: Executor = typer.Option(Executor.LOCAL, "--executor", help="Where what is left is done."),
    workers: int | None = _WORKERS,
    threads: int | None = _THREADS,
    cache: Path | None = _CACHE,
    device: options.Device = "auto",
    report: Path | None = typer.Option(None, "--report", help="A folder for a report on the build, with plots."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Publish a build that was made in shares (`build --task`); what is left of it is done first."""
    execution = Execution(executor.value, workers, threads, cache)
    chosen = parse_device(device)
    if report is not None:
        make_report_folder(report)
    started = time.monotonic()
    with _told_if_interrupted(f"pergamon publish {store}"), shown_progress() as show:
        manifest = publish_build(store, show, device=chosen, execution=execution)
    if report is not None:
        write_report(store, report)
    _report(store, manifest, time.monotonic() - started, as_json)


def _note(text: str) -> None:
    ERRORS.print(text, markup=False)


def _parse_share(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and int(number) < int(count) <= MAX_SHARES):
        raise InvalidArgument(
            f"the task is {text!r}; wanted I/N with 0 <= I < N <= {MAX_SHARES}, as 0/4, 1/4, 2/4 and 3/4",
            mend="number the elements of the array job from 0",
            field="task",
        )
    return int(number), int(count)


def _refuse_beside_task(executor: Executor, workers: int | None, threads: int | None, report: Path | None) -> None:
    given = {
        "--executor": executor is not Executor.LOCAL,
        "--workers": workers is not None,
        "--threads": threads is not None,
        "--report": report is not None,
    }
    if wrong := [name for name, there in given.items() if there]:
        raise InvalidArgument(
            f"{wrong[0]} was given with --task, whose share is done by this process alone",
            mend=f"leave out {wrong[0]}; `pergamon publish`, which does what is left, takes it",
            field=wrong[0].removeprefix("--"),
        )


@contextmanager
def _told_if_interrupted(again: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        _note(f"interrupted; {again} again goes on from here")
        raise typer.Exit(1) from None


def _report_share(store: Path, share: tuple[int, int], waits_for: Stage | None, as_json: bool) -> None:
    name = f"{share[0]}/{share[1]}"
    if as_json:
        print_json({"store": str(store), "task": name, "waits_for": waits_for.value if waits_for is not None else None})
    elif waits_for is None:
        _note(f"share {name} of {store} is done, and so are all others; publish it: pergamon publish {store}")
    else:
        _note(
            f"share {name} of {store} is done as far as can be: the stage {waits_for.value!r} of others comes next; "
            f"run them, then this again, or pergamon publish {store}, which does what is left"
        )


def _report(store: Path, manifest: Manifest, seconds: float, as_json: bool) -> None:
    rejects = manifest.rejects
    size = sum(record.bytes for record in manifest.files())
    if as_json:
        print_json(
            {
                "store": str(store),
                "generation": manifest.generation,
                "documents": manifest.documents,
                "passages": manifest.passages,
                "segments": len(manifest.segments),
                "rejected": rejects.total,
                "rejected_by_reason": rejects.by_reason,
                "masked": manifest.masked,
                "rejects_file": str(store / rejects.file.path) if rejects.file else None,
                "encoder": manifest.encoder.name,
                "index": manifest.index.describe(),
                "index_reason": manifest.index.reason,
                "index_memory_bytes": index_bytes(manifest.index, manifest.passages),
                "operating_curve": to_plain(manifest.operating_curve) if manifest.operating_curve else None,
                "bytes": size,
                "seconds": round(seconds, 3),
            }
        )
        return
    table = Table(show_header=False, box=None)
    table.add_row("documents", f"{manifest.documents:,}")
    table.add_row("passages", f"{manifest.passages:,} in {len(manifest.segments)} segments")
    table.add_row("encoder", f"{manifest.encoder.name}, {manifest.encoder.dimension} dimensions")
    table.add_row("index", f"{manifest.index.describe()}: {manifest.index.reason}")
    table.add_row("size", human_bytes(size))
    table.add_row("time", f"{seconds:.1f} s, {manifest.passages / max(seconds, 1e-9):.1f} passages/s")
    if rejects.file is not None:
        reasons = ", ".join(f"{reason} {count}" for reason, count in rejects.by_reason.items())
        table.add_row("rejected", f"{rejects.total:,} ({reasons}): see {escape(str(store / rejects.file.path))}")
    if manifest.masked:
        table.add_row("masked", ", ".join(f"{kind} {count:,}" for kind, count in manifest.masked.items()))
    ERRORS.print(f"built {store}", markup=False)
    ERRORS.print(table)
