"""A recall asked for: met on queries that were not measured with, on any number of shards, against brute force."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datastore.ann.index import Cover
from datastore.ann.operating_curve import OperatingCurve
from datastore.encoders.hashing import HashingEncoder
from datastore.errors import FailedPrecondition, InvalidArgument
from datastore.store.manifest import Manifest, read_manifest
from datastore.store.reader import StoreReader
from datastore.tune import TuneOptions, tune
from retriever.api import Hit, SearchRequest
from retriever.effort import effort
from retriever.filtered import Accepted, SurvivorsSearch
from retriever.router import Router
from retriever.shard import DenseQuery

BuildStore = Callable[..., Path]
Sharded = Callable[[Path, int], Router]
KINDS = {
    "ivf-pq": {"kind": "ivf-pq", "nlist": 32, "pq_m": 64, "tune_queries": 0, "train_vectors": 1000},
    "ivf-pq4": {"kind": "ivf-pq4", "nlist": 32, "tune_queries": 0},
}
QUERIES = 80


def texts(chance: random.Random, count: int) -> list[str]:
    """Of words that are common and rare as in any language, so that lists of neighbours are not clear-cut."""
    words = [f"word{i}" for i in range(500)]
    weights = [1 / (rank + 10) for rank in range(500)]
    return [" ".join(chance.choices(words, weights, k=chance.randint(6, 14))) for _ in range(count)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("written") / "texts.jsonl"
    records = [{"_id": f"t{i}", "text": text} for i, text in enumerate(texts(random.Random(1), 2500))]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture(scope="module", params=sorted(KINDS))
def store(request: pytest.FixtureRequest, written: Path, build_store: BuildStore) -> Path:
    """Tuned by queries like those that are asked, of which none is the same."""
    built = build_store(written, segment={"passages": 500}, index=KINDS[request.param])
    tune(built, TuneOptions(200), texts=texts(random.Random(2), 200))
    return built


@pytest.fixture(scope="module")
def vectors(store: Path) -> NDArray[np.float32]:
    reader = StoreReader(store)
    read = np.concatenate([segment.vectors.matrix.astype(np.float32) for segment in reader.segments])
    reader.close()
    return read


@pytest.fixture(scope="module")
def queries() -> NDArray[np.float32]:
    return HashingEncoder().encode_queries(texts(random.Random(3), QUERIES))


def shares(found: list[tuple[Hit, ...]], vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> list[float]:
    """Of the nearest k, for each query; one that scores as the last of them counts."""
    counted = []
    for hits, query in zip(found, queries, strict=True):
        cut = np.sort(np.einsum("ij,j->i", vectors, query))[-len(hits) :][0]
        counted.append(sum(hit.score >= cut for hit in hits) / len(hits))
    return counted


def search(router: Router, queries: NDArray[np.float32], k: int, recall: float | None) -> list[tuple[Hit, ...]]:
    return [router.search(SearchRequest(k=k, mode="dense", vector=query, recall=recall)).hits for query in queries]


@pytest.mark.parametrize("k", [10, 40])
def test_a_recall_is_met_by_any_number_of_shards(
    store: Path, vectors: NDArray[np.float32], queries: NDArray[np.float32], sharded: Sharded, k: int
) -> None:
    """Within two standard errors of the mean over the queries asked; more shards find no less."""
    for recall in (0.8, 0.95):
        means = []
        for shards in (1, 2, 7):
            counted = shares(search(sharded(store, shards), queries, k, recall), vectors, queries)
            assert np.mean(counted) >= recall - 2 * np.std(counted) / np.sqrt(QUERIES)
            means.append(np.mean(counted))
        assert means[0] <= means[1] + 2e-3 <= means[2] + 4e-3


def test_more_recall_costs_more(store: Path) -> None:
    manifest = read_manifest(store)
    settings = [
        effort(manifest, DenseQuery(np.zeros(256, np.float32), recall=recall), 10) for recall in (0.5, 0.8, 0.95, 0.99)
    ]
    probes = [nprobe or 0 for _, nprobe in settings]
    assert probes == sorted(probes)
    assert 0 < probes[0] < probes[-1] <= 32


def test_a_search_that_says_nothing_gets_the_usual_recall(
    store: Path, queries: NDArray[np.float32], sharded: Sharded
) -> None:
    router = sharded(store, 1)
    assert search(router, queries[:20], 10, None) == search(router, queries[:20], 10, 0.95)


def test_what_a_shard_makes_of_a_query(store: Path) -> None:
    tuned = read_manifest(store)
    assert tuned.operating_curve is not None
    plain = replace(tuned, operating_curve=None)
    usual = tuned.operating_curve.setting(10, 0.95)

    def chosen(manifest: Manifest, **options: float) -> tuple[int | None, int | None]:
        return effort(manifest, DenseQuery(np.zeros(256, np.float32), **options), 10)  # type: ignore[arg-type]

    assert chosen(tuned) == chosen(tuned, recall=0.95) == (usual.candidate_depth, usual.nprobe)
    assert chosen(tuned, nprobe=3) == (None, 3)
    assert chosen(tuned, candidate_depth=70) == (70, usual.nprobe)
    assert chosen(tuned, candidate_depth=70, nprobe=3) == (70, 3)
    assert chosen(plain) == (None, None)
    assert chosen(plain, candidate_depth=70) == (70, None)
    low = replace(tuned.operating_curve.curves[0], points=tuned.operating_curve.curves[0].points[:1])
    poor = replace(tuned, operating_curve=replace(tuned.operating_curve, curves=(low,)))
    assert chosen(poor) == (None, None)


def test_a_filter_starts_from_the_probes_of_a_recall(
    store: Path, monkeypatch: pytest.MonkeyPatch, sharded: Sharded
) -> None:
    seen: list[int] = []
    real = SurvivorsSearch.probes

    def watched(self: SurvivorsSearch, nprobe: int, accepted: Accepted) -> tuple[int, NDArray[np.uint8] | Cover]:
        seen.append(nprobe)
        return real(self, nprobe, accepted)

    monkeypatch.setattr(SurvivorsSearch, "probes", watched)
    monkeypatch.setattr("retriever.filtered.SCANNED_SURVIVORS", 10)
    router = sharded(store, 1)
    router.search(SearchRequest("word1 word7", mode="dense", recall=0.8, where="starts_with(document_id, 't1')"))
    assert seen == [curve_of(store).setting(10, 0.8).nprobe]


@pytest.mark.parametrize("shards", [1, 2])
def test_a_recall_out_of_reach(store: Path, sharded: Sharded, shards: int) -> None:
    """Whatever codes can tell apart at the greatest depth bounds it; here a curve of one point does."""
    router = sharded(store, shards)
    highest = curve_of(store).curve_for(10).highest
    if highest < 0.9999:
        with pytest.raises(InvalidArgument, match=f"the highest measured on this datastore is {highest:g}") as caught:
            router.search(SearchRequest("word1 word7", mode="dense", recall=0.99999))
        assert caught.value.field == "recall"
    for recall in (0.0, 1.0, float("nan"), -3.0):
        with pytest.raises(InvalidArgument, match="greater than 0 and less than 1"):
            router.search(SearchRequest("word1 word7", recall=recall))
    for other in ({"nprobe": 4}, {"candidate_depth": 100}):
        with pytest.raises(InvalidArgument, match=f"recall is 0.9 and {next(iter(other))}"):
            router.search(SearchRequest("word1 word7", recall=0.9, **other))  # type: ignore[arg-type]


def curve_of(store: Path) -> OperatingCurve:
    curve = read_manifest(store).operating_curve
    assert curve is not None
    return curve


def test_a_datastore_that_was_not_measured(ivf_store_untuned: Path, sharded: Sharded) -> None:
    router = sharded(ivf_store_untuned, 2)
    with pytest.raises(FailedPrecondition, match="pergamon tune STORE") as caught:
        router.search(SearchRequest("granite", recall=0.9))
    assert caught.value.field == "recall"
    assert router.search(SearchRequest("granite", mode="bm25", recall=0.9)).hits


@pytest.fixture(scope="module")
def ivf_store_untuned(documents: Path, build_store: BuildStore) -> Path:
    return build_store(documents, index={"kind": "ivf-pq4", "nlist": 16, "tune_queries": 0})


def test_a_flat_index_meets_any_recall(flat_store: Path, sharded: Sharded) -> None:
    for shards in (1, 2):
        router = sharded(flat_store, shards)
        for query in ("granite harbour", "badens konor"):
            plain, asked = (
                router.search(SearchRequest(query, mode="dense", recall=recall)).hits for recall in (None, 0.999)
            )
            assert plain == asked
