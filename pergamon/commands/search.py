"""`pergamon search`."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from datastore.devices import parse_device
from pergamon import options
from pergamon.options import FusionOption, ModeOption
from pergamon.output import print_json
from retriever.api import SearchResponse
from retriever.client import open_target

EXAMPLES = """
**Examples**

`pergamon search my.store "how do queues block"`

`pergamon search grpc://127.0.0.1:7700 "asyncio.Queue" --mode bm25 -k 3 --json`

`pergamon search my.store "queues" --where "starts_with(document_id, 'asyncio')"` (docs/filters.md has the language)

`pergamon search my.store "queues" --mode dense --recall 0.99` (what that takes is measured; docs/tuning.md)

`pergamon search my.store "queues" --collapse 0.95 --mmr 0.7` (no near-duplicates, and few passages that say the same)
"""
_SNIPPET_CHARACTERS = 300


def search(
    target: options.Target,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    k: Annotated[int, typer.Option("-k", help="Number of passages.")] = 10,
    mode: options.Mode = ModeOption.HYBRID,
    candidate_depth: options.CandidateDepth = None,
    nprobe: options.Nprobe = None,
    recall: options.Recall = None,
    fusion: options.FusionMethod = FusionOption.RRF,
    dense_weight: options.DenseWeight = 0.5,
    bm25_k1: options.Bm25K1 = None,
    bm25_b: options.Bm25B = None,
    mmr_lambda: options.MmrLambda = None,
    collapse_similarity: options.CollapseSimilarity = None,
    where: options.Where = None,
    require_complete: options.RequireComplete = False,
    timeout_s: options.TimeoutS = None,
    encoder: options.Encoder = None,
    device: options.Device = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Find the passages that answer a query."""
    request = options.search_request(
        query,
        k=k,
        mode=mode,
        candidate_depth=candidate_depth,
        nprobe=nprobe,
        recall=recall,
        fusion=fusion,
        dense_weight=dense_weight,
        bm25_k1=bm25_k1,
        bm25_b=bm25_b,
        mmr_lambda=mmr_lambda,
        collapse_similarity=collapse_similarity,
        where=where,
        require_complete=require_complete,
        timeout_s=timeout_s,
    )
    request.validate()
    with closing(open_target(target, encoder, parse_device(device))) as retriever:
        response = retriever.search(request)
    if as_json:
        print_json(response_json(response))
    else:
        _show(response)


def response_json(response: SearchResponse) -> dict[str, Any]:
    """The object that `--json` prints."""
    return {
        "query": response.query,
        "mode": response.mode,
        "score_kind": response.score_kind,
        "generation": response.generation,
        "hits": [
            {
                "rank": hit.rank,
                "document_id": hit.document_id,
                "chunk_index": hit.chunk_index,
                "score": hit.score,
                "dense_score": hit.dense_score,
                "bm25_score": hit.bm25_score,
                "title": hit.title,
                "text": hit.text,
                "source": hit.source,
                "start": hit.start,
                "end": hit.end,
                "attributes": dict(hit.attributes),
                "duplicates": hit.duplicates,
            }
            for hit in response.hits
        ],
        "coverage": asdict(response.coverage),
        "timings_ms": {stage: round(value, 3) for stage, value in response.timings_ms.items()},
    }


def _show(response: SearchResponse) -> None:
    console = Console()
    for hit in response.hits:
        text = " ".join(hit.text.split())
        snippet = text[:_SNIPPET_CHARACTERS] + ("…" if len(text) > _SNIPPET_CHARACTERS else "")
        parts = [f"{response.score_kind} {hit.score:.4f}"]
        if response.mode == "hybrid":
            parts += [f"dense {hit.dense_score:.4f}"] if hit.dense_score is not None else []
            parts += [f"bm25 {hit.bm25_score:.2f}"] if hit.bm25_score is not None else []
        parts += [f"and {hit.duplicates} like it"] if hit.duplicates else []
        name = escape(f"{hit.document_id} #{hit.chunk_index}")
        console.print(f"[bold]{hit.rank}. {escape(hit.title) or name}[/bold]  [dim]{', '.join(parts)}  {name}[/dim]")
        console.print(escape(snippet), highlight=False)
    if not response.hits:
        console.print("nothing found")
    coverage = response.coverage
    note = (
        f"{coverage.passages_searched:,} of {coverage.passages_total:,} passages, {response.timings_ms['total']:.1f} ms"
    )
    console.print(f"[dim]{note}[/dim]")
    for shard, why in coverage.failures.items():
        console.print(f"[yellow]did not answer: {escape(shard)}: {escape(why)}[/yellow]")
