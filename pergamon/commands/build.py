"""`pergamon build`."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path

import typer
from rich.markup import escape
from rich.table import Table

from datastore.ann.memory import index_bytes
from datastore.build import build as build_datastore
from datastore.config import load_config
from datastore.devices import parse_device
from datastore.segmenting import BuildProgress
from datastore.store.manifest import Manifest
from pergamon import options
from pergamon.output import ERRORS, human_bytes, print_json, progress_bar, to_plain

EXAMPLES = """
**Examples**

`pergamon build --input notes/ --store my.store`

`pergamon build --input corpus.jsonl.zst --store my.store --chunk-words 128`

`pergamon build --input corpus.jsonl.zst --store my.store --index-memory 2GiB`

`pergamon build --input s3://corpora/web/ --store web.store --chunker structure --chunk-tokens 200`

`pergamon build --input hf:allenai/c4:en@validation --store c4.store`

`pergamon build --input pydoc: --store py.store --encoder BAAI/bge-small-en-v1.5 --device cuda`
"""


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


class Executor(StrEnum):
    """What `--executor` takes."""

    LOCAL = "local"


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
    executor: Executor = typer.Option(Executor.LOCAL, "--executor", help="Where the work is done."),
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
        },
    )
    chosen = parse_device(device)
    started = time.monotonic()
    with progress_bar() as progress:
        task = progress.add_task("starting", total=None)

        def show(step: BuildProgress) -> None:
            note = f"{step.stage}: {step.documents:,} documents, {step.rejected:,} rejected, passages"
            progress.update(task, description=note, completed=step.passages)

        manifest = build_datastore(inputs, store, settings, show, device=chosen)
    _report(store, manifest, time.monotonic() - started, as_json)


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
    ERRORS.print(f"built {store}", markup=False)
    ERRORS.print(table)
