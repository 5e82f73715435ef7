"""The retriever's public interface: what a caller asks, what it gets, and the one protocol between them.

`rag`, `bench` and the command see retrieval through `Retriever` alone, whether the datastore lies in a local folder or
behind a gRPC address (`retriever.client.open_target` makes either).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from datastore.ann.operating_curve import check_recall
from datastore.documents import AttributeValue, Passage, PassageName
from datastore.errors import InvalidArgument
from datastore.filters.language import parse as parse_filter

Mode = Literal["hybrid", "dense", "bm25"]
ScoreKind = Literal["dot", "bm25", "rrf", "convex"]
FusionMethod = Literal["rrf", "convex"]

MAX_K = 10_000
MAX_CANDIDATE_DEPTH = 100_000
MAX_QUERY_CHARACTERS = 100_000
MAX_DIVERSE_K = 1000
"""Greatest k of a request with `mmr_lambda` or `collapse_similarity`: all pairs of candidates are compared."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """How dense and BM25 results become one list (see `retriever.fusion`)."""

    method: FusionMethod = "rrf"
    rrf_k: int = 60
    """The constant of reciprocal rank fusion."""
    dense_weight: float = 0.5
    """Weight of the dense side in a convex combination, 0 to 1; BM25 has the rest."""


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One query. Exactly what is left at its default is chosen by the service."""

    query: str = ""
    """The query text; may be empty only if `vector` is given and `mode` is dense."""
    k: int = 10
    mode: Mode = "hybrid"
    vector: NDArray[np.float32] | None = None
    """float32 [dimension]: a query already encoded with the datastore's encoder, instead of encoding `query`."""
    candidate_depth: int | None = None
    """How many ANN candidates are reranked exactly, per shard."""
    nprobe: int | None = None
    """How many lists of an IVF index are read."""
    recall: float | None = None
    """The share of the k nearest passages that a dense search should find, between 0 and 1, instead of the two above:
    they then follow from the datastore's operating curve (docs/tuning.md). A flat index finds all in any case."""
    bm25_k1: float | None = None
    bm25_b: float | None = None
    fusion: Fusion = Fusion()
    where: str | None = None
    """Only passages for which this is true, in the language of `datastore.filters` (docs/filters.md)."""
    mmr_lambda: float | None = None
    """Choose hits by maximal marginal relevance, each for its own relevance and against those chosen before it: 1 is
    relevance alone, 0 difference alone (`retriever.diversity`). `rank` is then the order; scores need not fall."""
    collapse_similarity: float | None = None
    """Drop a hit whose vector has at least this cosine, 0 to 1, with a better hit's, which counts it in `duplicates`.

    Hits are then chosen from what a search for 4 k (at least 50, at most 1,000) gives: where that is much alike, there
    are fewer than k. The same for `mmr_lambda`.
    """
    require_complete: bool = False
    """Fail with Unavailable when a shard does not answer, instead of answering with less coverage."""
    timeout_s: float | None = None

    @property
    def diverse(self) -> bool:
        """Whether the hits are not just the best k, so that their vectors are needed."""
        return self.mmr_lambda is not None or self.collapse_similarity is not None

    def validate(self) -> None:
        """Raise InvalidArgument, naming the field, unless every value is within its bounds."""
        if self.mode not in get_args(Mode):
            raise InvalidArgument(
                f"mode is {self.mode!r}; wanted one of {', '.join(get_args(Mode))}",
                mend="pass one of those",
                field="mode",
            )
        _check_range("k", self.k, 1, MAX_K)
        if self.candidate_depth is not None:
            _check_range("candidate_depth", self.candidate_depth, 1, MAX_CANDIDATE_DEPTH)
        if self.nprobe is not None:
            _check_range("nprobe", self.nprobe, 1, 1 << 20)
        if self.recall is not None:
            check_recall(self.recall)
            self._refuse_two_ways()
        if self.bm25_k1 is not None:
            _check_range("bm25_k1", self.bm25_k1, 0.0, 100.0)
        if self.bm25_b is not None:
            _check_range("bm25_b", self.bm25_b, 0.0, 1.0)
        if self.fusion.method not in get_args(FusionMethod):
            raise InvalidArgument(
                f"fusion method is {self.fusion.method!r}; wanted one of {', '.join(get_args(FusionMethod))}",
                mend="pass one of those",
                field="fusion.method",
            )
        _check_range("fusion.rrf_k", self.fusion.rrf_k, 1, 1_000_000)
        _check_range("fusion.dense_weight", self.fusion.dense_weight, 0.0, 1.0)
        if self.where is not None:
            parse_filter(self.where)
        if self.mmr_lambda is not None:
            _check_range("mmr_lambda", self.mmr_lambda, 0.0, 1.0)
        if self.collapse_similarity is not None:
            _check_range("collapse_similarity", self.collapse_similarity, 0.0, 1.0)
        if self.diverse and self.k > MAX_DIVERSE_K:
            raise InvalidArgument(
                f"k is {self.k}; with mmr_lambda or collapse_similarity it must be between 1 and {MAX_DIVERSE_K}",
                mend="pass a k in that range, or neither of the two",
                field="k",
            )
        if self.timeout_s is not None:
            _check_range("timeout_s", self.timeout_s, 0.0, 86_400.0)
        if len(self.query) > MAX_QUERY_CHARACTERS:
            raise InvalidArgument(
                f"query has {len(self.query)} characters; at most {MAX_QUERY_CHARACTERS} are taken",
                mend="shorten the query",
                field="query",
            )
        try:
            self.query.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgument(
                f"query has {self.query[error.start]!a} at position {error.start}, which is no Unicode character",
                mend="pass valid Unicode text",
                field="query",
            ) from None
        if not self.query.strip() and not (self.vector is not None and self.mode == "dense"):
            raise InvalidArgument(
                "query is empty; wanted some text", mend="pass a query with at least one word", field="query"
            )

    def _refuse_two_ways(self) -> None:
        """Of saying how much a dense search looks at."""
        for name, value in (("nprobe", self.nprobe), ("candidate_depth", self.candidate_depth)):
            if value is not None:
                raise InvalidArgument(
                    f"recall is {self.recall} and {name} is {value}; a recall decides about both nprobe and "
                    "candidate_depth",
                    mend=f"pass either the recall or the {name}",
                    field="recall",
                )


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # also refuses NaN
        raise InvalidArgument(
            f"{name} is {value}; it must be between {low} and {high}", mend=f"pass a {name} in that range", field=name
        )


@dataclass(frozen=True, slots=True)
class Hit:
    """One result. Scores are floats, higher is better; `score` is of the response's `score_kind`."""

    rank: int
    """1 for the best."""
    document_id: str
    chunk_index: int
    score: float
    dense_score: float | None
    """Exact inner product of query and passage vectors; None if the passage was not among the dense candidates."""
    bm25_score: float | None
    """None if the passage was not among the BM25 candidates."""
    title: str
    text: str
    source: str
    start: int = 0
    end: int = 0
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    duplicates: int = 0
    """How many near-duplicates, dropped, it stands for; of a request with `collapse_similarity`."""

    @property
    def name(self) -> PassageName:
        return PassageName(self.document_id, self.chunk_index)


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the datastore an answer rests on."""

    shards_total: int
    shards_ok: int
    passages_total: int
    passages_searched: int
    failures: Mapping[str, str] = field(default_factory=dict)
    """Shard name -> one line: why it did not answer."""

    @property
    def complete(self) -> bool:
        return self.shards_ok == self.shards_total


@dataclass(frozen=True, slots=True)
class SearchResponse:
    query: str
    mode: Mode
    score_kind: ScoreKind
    generation: int
    hits: tuple[Hit, ...]
    coverage: Coverage
    timings_ms: Mapping[str, float]
    """Stage -> milliseconds: statistics (of BM25, where shards must be asked), encode, search, fuse, diversify (of a
    request that is `diverse`), fetch, total."""


@dataclass(frozen=True, slots=True)
class DatastoreInfo:
    """What a target is: enough to encode queries for it and to show it."""

    generation: int
    passages: int
    documents: int
    dimension: int
    encoder: str
    index: str
    shards_total: int
    refresh_error: str = ""
    """Why a newer generation of the datastore does not answer; empty if nothing is wrong."""


class Retriever(Protocol):
    """A datastore that answers queries; thread-safe. Errors are those of `datastore.errors`."""

    def search(self, request: SearchRequest) -> SearchResponse: ...

    def get_passages(self, names: Sequence[PassageName]) -> list[Passage]:
        """The passages in the order of `names`; NotFound names the first that does not exist."""
        ...

    def info(self) -> DatastoreInfo: ...

    def close(self) -> None: ...
