"""`pergamon search`."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from enum import StrEnum
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from pergamon.output import print_json
from retriever.api import Fusion, SearchRequest, SearchResponse
from retriever.client import open_target

EXAMPLES = """
**Examples**

`pergamon search my.store "how do queues block"`

`pergamon search grpc://127.0.0.1:7700 "asyncio.Queue" --mode bm25 -k 3 --json`
"""
_SNIPPET_CHARACTERS = 300


class ModeOption(StrEnum):
    """What `--mode` takes."""

    HYBRID = "hybrid"
    DENSE = "dense"
    BM25 = "bm25"


class FusionOption(StrEnum):
    """What `--fusion` takes."""

    RRF = "rrf"
    CONVEX = "convex"


def search(
    target: str = typer.Argument(..., help="The folder of a datastore, or grpc://host:port."),
    query: str = typer.Argument(..., help="What to look for."),
    k: int = typer.Option(10, "-k", help="Number of passages."),
    mode: ModeOption = typer.Option(ModeOption.HYBRID, "--mode", help="Which side finds them."),
    candidate_depth: int | None = typer.Option(None, "--candidate-depth", help="ANN candidates reranked exactly."),
    nprobe: int | None = typer.Option(None, "--nprobe", help="Lists of an IVF index that are read."),
    fusion: FusionOption = typer.Option(FusionOption.RRF, "--fusion", help="How hybrid combines both sides."),
    dense_weight: float = typer.Option(0.5, "--dense-weight", help="Weight of dense in a convex fusion, 0 to 1."),
    bm25_k1: float | None = typer.Option(None, "--bm25-k1", help="BM25's k1 (default: the datastore's)."),
    bm25_b: float | None = typer.Option(None, "--bm25-b", help="BM25's b (default: the datastore's)."),
    require_complete: bool = typer.Option(False, "--require-complete", help="Fail unless every shard answers."),
    timeout_s: float | None = typer.Option(None, "--timeout-s", help="Seconds allowed."),
    encoder: str | None = typer.Option(None, "--encoder", help="Where to load the datastore's encoder from."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Find the passages that answer a query."""
    request = SearchRequest(
        query,
        k=k,
        mode=mode.value,
        candidate_depth=candidate_depth,
        nprobe=nprobe,
        fusion=Fusion(fusion.value, dense_weight=dense_weight),
        bm25_k1=bm25_k1,
        bm25_b=bm25_b,
        require_complete=require_complete,
        timeout_s=timeout_s,
    )
    request.validate()
    with closing(open_target(target, encoder)) as retriever:
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
