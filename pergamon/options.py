"""The options that commands which search share, declared once, and the request that they make."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from retriever.api import Fusion, SearchRequest


class ModeOption(StrEnum):
    """What `--mode` takes."""

    HYBRID = "hybrid"
    DENSE = "dense"
    BM25 = "bm25"


class FusionOption(StrEnum):
    """What `--fusion` takes."""

    RRF = "rrf"
    CONVEX = "convex"


Target = Annotated[str, typer.Argument(help="The folder of a datastore, or grpc://host:port.")]
Mode = Annotated[ModeOption, typer.Option("--mode", help="Which side finds passages.")]
CandidateDepth = Annotated[int | None, typer.Option("--candidate-depth", help="ANN candidates reranked exactly.")]
Nprobe = Annotated[int | None, typer.Option("--nprobe", help="Lists of an IVF index that are read.")]
Recall = Annotated[
    float | None,
    typer.Option(
        "--recall",
        help="Share of the nearest passages to find, as 0.95: chooses --nprobe and --candidate-depth by what "
        "`pergamon tune` or the build measured.",
    ),
]
FusionMethod = Annotated[FusionOption, typer.Option("--fusion", help="How hybrid combines both sides.")]
DenseWeight = Annotated[float, typer.Option("--dense-weight", help="Weight of dense in a convex fusion, 0 to 1.")]
Bm25K1 = Annotated[float | None, typer.Option("--bm25-k1", help="BM25's k1 (default: the datastore's).")]
Bm25B = Annotated[float | None, typer.Option("--bm25-b", help="BM25's b (default: the datastore's).")]
MmrLambda = Annotated[
    float | None,
    typer.Option(
        "--mmr",
        metavar="LAMBDA",
        help="Diverse passages by maximal marginal relevance: 1 is relevance alone, 0 difference alone.",
    ),
]
CollapseSimilarity = Annotated[
    float | None,
    typer.Option(
        "--collapse",
        metavar="SIMILARITY",
        help="Drop near-duplicates: passages with this cosine, 0 to 1, or more with a better one.",
    ),
]
Where = Annotated[
    str | None,
    typer.Option("--where", metavar="EXPR", help='Only passages for which this is true, as "year >= 2000".'),
]
RequireComplete = Annotated[bool, typer.Option("--require-complete", help="Fail unless every shard answers.")]
TimeoutS = Annotated[float | None, typer.Option("--timeout-s", help="Seconds allowed.")]
Encoder = Annotated[str | None, typer.Option("--encoder", help="Where to load the datastore's encoder from.")]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda[:N,...]",
        help="Where models and the index compute: cuda:0,1 for those GPUs, auto for all that are there, or the CPU.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def search_request(
    query: str = "",
    *,
    k: int,
    mode: ModeOption,
    candidate_depth: int | None,
    nprobe: int | None,
    recall: float | None,
    fusion: FusionOption,
    dense_weight: float,
    bm25_k1: float | None,
    bm25_b: float | None,
    mmr_lambda: float | None,
    collapse_similarity: float | None,
    where: str | None,
    require_complete: bool,
    timeout_s: float | None = None,
) -> SearchRequest:
    """What the options ask for; without a query, what every query of a collection asks for."""
    return SearchRequest(
        query,
        k=k,
        mode=mode.value,
        candidate_depth=candidate_depth,
        nprobe=nprobe,
        recall=recall,
        fusion=Fusion(fusion.value, dense_weight=dense_weight),
        bm25_k1=bm25_k1,
        bm25_b=bm25_b,
        mmr_lambda=mmr_lambda,
        collapse_similarity=collapse_similarity,
        where=where,
        require_complete=require_complete,
        timeout_s=timeout_s,
    )
