"""One shard over a real store: exact, in the right order, and never a wrong passage."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from datastore.documents import PassageName
from datastore.encoders.hashing import HashingEncoder
from datastore.errors import InvalidArgument, NotFound
from datastore.store.manifest import read_manifest
from datastore.store.reader import StoreReader
from retriever.local_shard import LocalShard
from retriever.shard import Bm25Query, Candidate, DenseQuery, ShardQuery

TWIN = "granite harbour lantern under a copper sky"
QUERIES = ["badens konor rutuvel", "granite lantern", TWIN, f"{TWIN} baden mitus", "sky koden", "unheard-of", "?!"]
Oracle = Callable[[np.ndarray], list[tuple[PassageName, float]]]


def encode(text: str) -> np.ndarray:
    vector: np.ndarray = HashingEncoder().encode_queries([text])[0]
    return vector


def dense(shard: LocalShard, vector: np.ndarray, k: int) -> tuple[Candidate, ...]:
    return shard.search(ShardQuery(k, DenseQuery(vector))).dense


def bm25(shard: LocalShard, text: str, k: int) -> tuple[Candidate, ...]:
    return shard.search(ShardQuery(k, bm25=Bm25Query(text))).bm25


def found(candidates: tuple[Candidate, ...]) -> list[tuple[PassageName, float]]:
    return [(candidate.name, candidate.score) for candidate in candidates]


@pytest.fixture(scope="module")
def shard(flat_store: Path) -> Iterator[LocalShard]:
    opened = LocalShard(flat_store)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def stored(flat_store: Path) -> tuple[list[PassageName], np.ndarray]:
    """Names and float16 vectors of all passages, as they lie on disk."""
    reader = StoreReader(flat_store)
    names = [name for s in reader.segments for name in s.columns.names(np.arange(s.vectors.rows))]
    vectors = np.concatenate([np.array(s.vectors.matrix) for s in reader.segments])
    reader.close()
    return names, vectors


@pytest.fixture(scope="module")
def oracle(stored: tuple[list[PassageName], np.ndarray]) -> Oracle:
    """All passages by brute force: best inner product first, ties by stable name."""
    names, vectors = stored

    def search(query: np.ndarray) -> list[tuple[PassageName, float]]:
        scores = np.einsum("ij,j->i", vectors.astype(np.float32), query)
        in_float64 = vectors.astype(np.float64) @ query.astype(np.float64)
        assert np.allclose(scores, in_float64, rtol=0, atol=1e-6 * np.linalg.norm(query))
        return sorted(zip(names, scores.tolist(), strict=True), key=lambda scored: (-scored[1], scored[0]))

    return search


@pytest.mark.parametrize("k", [1, 10, 100, 1400, 1501, 10_000])
@pytest.mark.parametrize("query", QUERIES)
def test_flat_dense_is_brute_force(shard: LocalShard, oracle: Oracle, query: str, k: int) -> None:
    vector = encode(query)
    assert found(dense(shard, vector, k)) == oracle(vector)[:k]


def test_flat_dense_is_brute_force_wherever_duplicates_meet_the_cut(shard: LocalShard, oracle: Oracle) -> None:
    vector = encode(f"{TWIN} baden")
    wanted = oracle(vector)
    twins = [rank for rank, (name, _) in enumerate(wanted) if name.document_id.startswith("twin-")]
    assert len(twins) == 1500
    for k in (twins[0], twins[0] + 1, twins[500], twins[-1], twins[-1] + 1, twins[-1] + 2):
        assert found(dense(shard, vector, max(k, 1))) == wanted[: max(k, 1)]


@pytest.mark.parametrize("seed", range(20))
def test_flat_dense_is_brute_force_for_any_vector(shard: LocalShard, oracle: Oracle, seed: int) -> None:
    random = np.random.default_rng(seed)
    vector = (random.standard_normal(256) * 10.0 ** random.integers(-6, 6)).astype(np.float32)
    assert found(dense(shard, vector, 50)) == oracle(vector)[:50]


def test_flat_dense_is_brute_force_where_all_scores_are_rounding_noise(
    shard: LocalShard, stored: tuple[list[PassageName], np.ndarray], oracle: Oracle
) -> None:
    """A query at right angles to every passage: each score is near 0, and the order is that of the last digits."""
    directions = np.linalg.svd(stored[1].astype(np.float64), full_matrices=False)[2]
    vector = directions[-1].astype(np.float32)
    wanted = oracle(vector)
    assert 0 < max(abs(score) for _, score in wanted) < 1e-3
    assert found(dense(shard, vector, 10)) == wanted[:10]


def test_bm25_ties_at_the_cut_break_by_stable_name(shard: LocalShard) -> None:
    twins = sorted(PassageName(f"twin-{i}", 0) for i in range(1500))
    everything = found(bm25(shard, TWIN, 5000))
    first = next(rank for rank, (name, _) in enumerate(everything) if name == twins[0])
    assert [name for name, _ in everything[first : first + 1500]] == twins
    for k in (first + 1, first + 10, first + 700, first + 1500, first + 1501):
        assert found(bm25(shard, TWIN, k)) == everything[:k]


@pytest.mark.parametrize("text", ["the of and", "?! ... --", "🙂🙃", "unheard-of-anywhere", "   "])
def test_a_query_without_known_terms_finds_nothing_by_bm25(shard: LocalShard, text: str) -> None:
    result = shard.search(ShardQuery(10, bm25=Bm25Query(text)))
    assert result.bm25 == ()
    assert result.passages_searched == shard.describe().passages


def test_fewer_than_k_is_a_shorter_list(two_segments: Path, oracle: Oracle) -> None:
    shard = LocalShard(two_segments)
    passages = shard.describe().passages
    query = ShardQuery(passages + 5, DenseQuery(encode("baden")), Bm25Query("lantern"))
    result = shard.search(query)
    assert len(result.dense) == len({candidate.name for candidate in result.dense}) == passages
    assert 1500 <= len(result.bm25) < passages
    texts = shard.fetch([(candidate.segment, candidate.row) for candidate in result.bm25])
    assert all("lantern" in passage.indexed_text for passage in texts)
    shard.close()


@pytest.mark.parametrize("shape", [(255,), (257,), (0,), (1, 256), ()])
def test_a_vector_of_another_shape_is_refused(shard: LocalShard, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument, match=r"gives \(256,\)") as caught:
        dense(shard, np.zeros(shape, np.float32), 10)
    assert caught.value.field == "vector"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_is_refused(shard: LocalShard, value: float) -> None:
    vector = encode("baden")
    vector[3] = value
    with pytest.raises(InvalidArgument, match="not finite"):
        dense(shard, vector, 10)


def test_fetch_gives_the_passages_found_in_the_order_asked(shard: LocalShard) -> None:
    result = dense(shard, encode("baden mitus"), 200)
    rows = [(candidate.segment, candidate.row) for candidate in result]
    assert len({segment for segment, _ in rows}) > 1
    passages = shard.fetch([*rows, rows[0]])
    assert [passage.name for passage in passages] == [c.name for c in (*result, result[0])]
    assert shard.fetch([]) == []


def test_fetch_vectors_gives_what_lies_on_disk(shard: LocalShard, stored: tuple[list[PassageName], np.ndarray]) -> None:
    names, matrix = stored
    result = dense(shard, encode("baden mitus"), 200)
    rows = [(candidate.segment, candidate.row) for candidate in result]
    vectors = shard.fetch_vectors([*rows, rows[0]])
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, matrix[[names.index(c.name) for c in (*result, result[0])]])
    assert shard.fetch_vectors([]).shape == (0, 256)


@pytest.mark.parametrize(("segment", "row"), [("elsewhere", 0), (None, 100_000), (None, -1)])
def test_a_place_that_is_not_there(shard: LocalShard, segment: str | None, row: int) -> None:
    for fetch in (shard.fetch, shard.fetch_vectors):
        with pytest.raises(NotFound):
            fetch([(segment or shard.describe().segments[0], row)])


def test_lookup_finds_every_passage_by_name(shard: LocalShard, stored: tuple[list[PassageName], np.ndarray]) -> None:
    names, _ = stored
    sample = [*names[::50], PassageName("text-0", 99), PassageName("nobody", 0), PassageName("twin-3", -1)]
    passages = shard.lookup(sample)
    assert [passage.name if passage else None for passage in passages] == [*names[::50], None, None, None]


def test_shards_share_the_passages_out(flat_store: Path) -> None:
    for count in (1, 2, 7):
        shards = [LocalShard(flat_store, (index, count)) for index in range(count)]
        assert [shard.describe().shard_index for shard in shards] == list(range(count))
        described = [shard.describe() for shard in shards]
        segments = [segment for info in described for segment in info.segments]
        assert len(segments) == len(set(segments)) == len(read_manifest(flat_store).segments)
        assert sum(info.passages for info in described) == described[0].passages_total
        assert max(info.passages for info in described) < 2 * described[0].passages_total / count
        for shard in shards:
            shard.close()


def test_an_empty_shard_answers_with_nothing(two_segments: Path) -> None:
    shard = LocalShard(two_segments, (6, 7))
    assert shard.describe().segments == ()
    result = shard.search(ShardQuery(10, DenseQuery(encode("baden")), Bm25Query("baden")))
    assert (result.shard_index, result.shard_count, result.passages_searched) == (6, 7, 0)
    assert result.dense == result.bm25 == ()
    assert shard.bm25_statistics("baden")[1].document_count == 0
    assert shard.lookup([PassageName("twin-0", 0)]) == [None]
    shard.close()


@pytest.mark.parametrize("part", [(1, 1), (-1, 2), (0, 0), (7, 7)])
def test_a_shard_that_cannot_be_is_refused(flat_store: Path, part: tuple[int, int]) -> None:
    with pytest.raises(InvalidArgument, match="wanted I/N"):
        LocalShard(flat_store, part)


def test_a_closed_shard_lets_go_of_everything_at_once(flat_store: Path) -> None:
    """Codes in memory and removed files on disk do not wait for the interpreter to look for cycles."""
    gc.disable()
    try:
        opened = LocalShard(flat_store)
        opened.search(ShardQuery(3, DenseQuery(encode(TWIN)), Bm25Query(TWIN), where="document_id is not null"))
        opened.warm_up(0.01)
        gone = weakref.ref(opened)
        opened.close()
        del opened
        assert gone() is None
    finally:
        gc.enable()
