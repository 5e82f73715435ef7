"""A shard that moves to new generations while it answers, and a router over several that move one after another."""

from __future__ import annotations

import json
import random
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from datastore.encoders.hashing import HashingEncoder
from datastore.errors import DataLoss, FailedPrecondition, PergamonError, Unavailable
from datastore.keeping.addition import add
from datastore.keeping.compaction import compact
from datastore.keeping.deletion import delete
from datastore.store.manifest import read_manifest
from retriever import membership
from retriever.api import SearchRequest
from retriever.live_shard import LiveShard
from retriever.local_shard import LocalShard
from retriever.router import Router
from retriever.rpc.remote_shard import RemoteShard
from retriever.rpc.server import RpcServer
from retriever.shard import Bm25Query, DenseQuery, Shard, ShardQuery, is_not_held

TWIN = "granite harbour lantern under a copper sky"
WORDS = ["sky", "lantern", "copper", "harbour", "marble", "willow", "anchor", "ember"]
Route = Callable[[Sequence[Shard]], Router]
Eventually = Callable[[Callable[[], bool]], None]
INDEXES = {
    "flat": {"kind": "flat"},
    "ivf-pq4": {"kind": "ivf-pq4", "nlist": 16, "pq_m": 16, "tune_queries": 0},
    "ivf-pq": {"kind": "ivf-pq", "nlist": 16, "pq_m": 16, "tune_queries": 0},
}


def records(first: int, count: int) -> str:
    chance = random.Random(first)
    texts = (" ".join(chance.choices(WORDS, k=chance.randint(3, 9))) for _ in range(count))
    return "".join(json.dumps({"_id": f"n{first + i}", "text": text}) + "\n" for i, text in enumerate(texts))


@pytest.fixture(scope="module", params=INDEXES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, build_store: Callable[..., Path]) -> Callable[[str], Path]:
    """`built(kind)`: a store of 1,200 documents in several segments."""
    stores: dict[str, Path] = {}
    source = tmp_path_factory.mktemp("records") / "records.jsonl"
    source.write_text(records(0, 1200))

    def make(kind: str) -> Path:
        if kind not in stores:
            stores[kind] = build_store(source, chunk={"words": 0}, segment={"passages": 400}, index=INDEXES[kind])
        return stores[kind]

    return make


@pytest.fixture
def store(built: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(built("flat"), tmp_path / "store"))


@pytest.fixture
def more(tmp_path: Path) -> Callable[[Path, int, int], None]:
    """`more(store, first, count)`: adds so many documents."""

    def write(store: Path, first: int, count: int) -> None:
        source = tmp_path / f"more-{first}.jsonl"
        source.write_text(records(first, count))
        add(store, [str(source)], encoder=HashingEncoder())

    return write


@pytest.fixture
def live() -> Iterator[Callable[..., LiveShard]]:
    """`live(store, …)`: a shard that moves when it is told to, or by itself; closed at the end of the test."""
    opened: list[LiveShard] = []

    def make(store: Path, shard: tuple[int, int] = (0, 1), refresh_s: float = 0.0, linger_s: float = 10.0) -> LiveShard:
        opened.append(LiveShard(store, shard, refresh_s=refresh_s, linger_s=linger_s))
        return opened[-1]

    yield make
    for shard in opened:
        shard.close()


def questions() -> list[ShardQuery]:
    vector = HashingEncoder().encode_queries(["lantern harbour"])[0]
    return [
        ShardQuery(20, DenseQuery(vector, 400, 16)),
        ShardQuery(20, bm25=Bm25Query("lantern harbour")),
        ShardQuery(20, DenseQuery(vector, 400, 16), Bm25Query("sky marble"), where="document_id != 'n7'", passages=9),
    ]


def same_answers(shard: Shard, fresh: Shard) -> None:
    for query in questions():
        mine, wanted = shard.search(query), fresh.search(query)
        assert replace(mine, generations=wanted.generations) == wanted


def test_it_answers_as_one_opened_anew(
    kind: str,
    built: Callable[[str], Path],
    tmp_path: Path,
    live: Callable[..., LiveShard],
    more: Callable[[Path, int, int], None],
) -> None:
    store = Path(shutil.copytree(built(kind), tmp_path / "store"))
    shard = live(store)
    assert not shard.refresh()
    changes: list[Callable[[], object]] = [
        lambda: more(store, 2000, 40),
        lambda: delete(store, document_ids=["n1", "n2001", "n1100"]),
        lambda: more(store, 4000, 500),
        lambda: compact(store),
    ]
    for change in changes:
        change()
        before = shard.describe().generation
        assert shard.refresh()
        assert shard.describe().generation == before + 1 == read_manifest(store).generation
        fresh = LocalShard(store)
        same_answers(shard, fresh)
        shard.join()
        same_answers(shard, fresh)
        assert shard.describe().passages == fresh.describe().passages == read_manifest(store).passages
        fresh.close()


def test_what_both_generations_have_is_open_once(store: Path, more: Callable[[Path, int, int], None]) -> None:
    first = LocalShard(store)
    more(store, 2000, 30)
    second = LocalShard(store, previous=first)
    shared = zip(first._reader.segments, second._reader.segments, strict=False)
    assert all(a.vectors is b.vectors and a.passages is b.passages and a.filters is b.filters for a, b in shared)
    assert first._reader.groups[0].index is second._reader.groups[0].index
    assert 0 < second.tail_share < 0.1
    first.close()
    same_answers(second, second)  # what it shares is open still
    second.close()
    assert not second._reader._parts._held
    with pytest.raises((PergamonError, ValueError, OSError)):
        second.search(questions()[1])


def test_generations_before_the_newest_linger(
    store: Path, live: Callable[..., LiveShard], more: Callable[[Path, int, int], None]
) -> None:
    shard = live(store, linger_s=60.0)
    first = shard.describe().generation
    wanted = [shard.search(query) for query in questions()]
    for number in range(4):
        more(store, 2000 + 100 * number, 3)
        assert shard.refresh()
        held = shard.describe().generations
        assert held[-1] == first + number + 1
        assert len(held) <= 3
        # Who asks for the first keeps it, and gets what it had.
        answers = [shard.search(replace(query, generation=first)) for query in questions()]
        assert [replace(answer, generations=()) for answer in answers] == [
            replace(answer, generations=()) for answer in wanted
        ]
    with pytest.raises(FailedPrecondition, match=f"{first + 1} was asked for") as caught:
        shard.search(replace(questions()[0], generation=first + 1))
    assert is_not_held(caught.value)
    shard._generations._linger_s = 0.0
    shard._generations.expire()
    assert shard.describe().generations == (first + 4,)
    with pytest.raises(FailedPrecondition, match="was asked for"):
        shard.fetch([], generation=first)


def test_a_call_ends_on_the_generation_on_which_it_began(
    store: Path, live: Callable[..., LiveShard], more: Callable[[Path, int, int], None]
) -> None:
    shard = live(store, linger_s=0.0)
    with shard._generations.lease(None) as before:
        wanted = before.search(questions()[2])
        delete(store, document_ids=[candidate.document_id for candidate in wanted.dense])
        assert shard.refresh()
        shard._generations.expire()
        assert shard.describe().generations == (before.generation + 1,)
        assert before.search(questions()[2]) == wanted
        gone = {candidate.document_id for candidate in wanted.dense}
        assert not gone & {candidate.document_id for candidate in shard.search(questions()[2]).dense}
    with pytest.raises((PergamonError, ValueError, OSError)):
        before.search(questions()[2])


def test_one_that_cannot_be_opened_leaves_the_one_before(
    store: Path,
    live: Callable[..., LiveShard],
    more: Callable[[Path, int, int], None],
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shard = live(store, refresh_s=0.02)
    first = shard.describe().generation
    good = (store / "manifest.json").read_bytes()
    more(store, 2000, 30)
    whole = (store / "manifest.json").read_bytes()
    eventually(lambda: shard.describe().generation == first + 1)
    (store / "manifest.json").write_bytes(whole[:-40])
    eventually(lambda: shard.describe().refresh_error != "")
    assert "manifest.json" in shard.describe().refresh_error
    assert shard.search(questions()[2]).generation == first + 1
    assert [r.levelname for r in caplog.records if "stays at generation" in r.message] == ["WARNING"]
    (store / "manifest.json").write_bytes(whole)
    eventually(lambda: shard.describe().refresh_error == "")
    (store / "manifest.json").write_bytes(good)  # an earlier state, by hand
    eventually(lambda: shard.describe().generation == first)
    assert shard.search(questions()[2]).generation == first


def test_a_missing_file_is_waited_for(
    store: Path, live: Callable[..., LiveShard], more: Callable[[Path, int, int], None]
) -> None:
    shard = live(store)
    more(store, 2000, 30)
    segment = read_manifest(store).segments[-1].segment_id
    vectors = store / "segments" / segment / "vectors.f16"
    vectors.rename(store / "away")
    with pytest.raises(DataLoss, match=r"vectors\.f16 is missing"):
        shard.refresh()
    assert shard.search(questions()[2]).dense
    (store / "away").rename(vectors)
    assert shard.refresh()


def test_another_datastore_in_the_folder_is_refused(
    store: Path, live: Callable[..., LiveShard], flat_store: Path
) -> None:
    shard = live(store)
    moved = store.with_name("moved")
    store.rename(moved)
    shutil.copytree(flat_store, store)
    with pytest.raises(FailedPrecondition, match=r"holds the datastore .* now, and held .*restart the server"):
        shard.refresh()
    assert shard.search(questions()[2]).dense


def test_searches_while_generations_change(
    store: Path, live: Callable[..., LiveShard], more: Callable[[Path, int, int], None], route: Route
) -> None:
    """Each document is in all generations from one to another: every answer is of one of them, whole."""
    first = read_manifest(store).generation
    router = route([live(store, (0, 2), refresh_s=0.01, linger_s=0.3), live(store, (1, 2), refresh_s=0.03)])
    added: dict[str, int] = {}
    deleted: dict[str, int] = {}
    done = threading.Event()
    failures: list[str] = []
    seen: set[int] = set()

    def search(number: int) -> None:
        generation = 0
        while not done.is_set():
            try:
                answer = router.search(SearchRequest(WORDS[number], 200, "bm25" if number % 2 else "hybrid"))
            except Exception as error:
                failures.append(repr(error))
                return
            if answer.generation < generation or not answer.coverage.complete:
                failures.append(f"{answer.generation} after {generation}, {answer.coverage}")
            generation = answer.generation
            seen.add(generation)
            for hit in answer.hits:
                name = hit.document_id
                if added.get(name, 0) > generation or deleted.get(name, generation + 1) <= generation:
                    failures.append(f"{name} in {generation}")

    threads = [threading.Thread(target=search, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(4):
            start = 10_000 + 100 * number
            added.update({f"n{start + i}": first + 2 * number + 1 for i in range(5)})
            more(store, start, 5)
            gone = [f"n{20 * number + i}" for i in range(9)] + [f"n{start}"]
            deleted.update(dict.fromkeys(gone, first + 2 * number + 2))
            delete(store, document_ids=gone)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len(seen) > 2


def test_a_router_answers_from_what_all_shards_hold(
    store: Path,
    live: Callable[..., LiveShard],
    more: Callable[[Path, int, int], None],
    route: Route,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    early, late = live(store, (0, 2)), live(store, (1, 2))
    router = route([early, late])
    first = router.search(SearchRequest(WORDS[0])).generation
    more(store, 2000, 300)
    early.refresh()
    answer = router.search(SearchRequest(WORDS[0], 1500))
    assert answer.generation == router.info().generation == first
    assert answer.coverage.complete
    assert answer.coverage.passages_total == router.info().passages == 1200
    late.refresh()
    answer = router.search(SearchRequest(WORDS[0], 1500))
    assert answer.generation == router.info().generation == first + 1
    assert answer.coverage.passages_total == answer.coverage.passages_searched == router.info().passages == 1500
    assert len(router.get_passages([hit.name for hit in answer.hits])) == len(answer.hits)

    # One that stays behind is waited for, and then left behind; no answer is of an older generation than one before.
    monkeypatch.setattr(membership, "CATCH_UP_S", 0.2)
    delete(store, document_ids=["n3"])
    early.refresh()
    early._generations._linger_s = 0.0
    early._generations.expire()
    answer = router.search(SearchRequest(WORDS[0]))
    assert answer.generation == first + 2
    assert (answer.coverage.shards_ok, list(answer.coverage.failures)) == (1, [late.name])
    assert f"holds generation {first}, {first + 1}, and others answer from {first + 2}" in str(answer.coverage.failures)
    with pytest.raises(Unavailable, match="1 of 2 shards"):
        router.search(SearchRequest(WORDS[0], require_complete=True))

    # Nor when the others are gone.
    monkeypatch.setattr(early, "search", gone)
    monkeypatch.setattr(early, "describe", gone)
    for _ in range(2):
        with pytest.raises(Unavailable, match=f"holds generation {first}, {first + 1}, and|went away"):
            router.search(SearchRequest(WORDS[0]))
    monkeypatch.undo()
    late.refresh()
    assert router.search(SearchRequest(WORDS[0])).coverage.complete


def gone(*arguments: object, **options: object) -> None:
    raise Unavailable("the server went away", mend="start it again")


def test_a_datastore_put_back_to_an_earlier_state(
    store: Path, live: Callable[..., LiveShard], more: Callable[[Path, int, int], None], route: Route
) -> None:
    shards = [live(store, (index, 2), linger_s=0.0) for index in range(2)]
    router = route(shards)
    before = (store / "manifest.json").read_bytes()
    first = router.search(SearchRequest(WORDS[0])).generation
    more(store, 2000, 30)
    for shard in shards:
        shard.refresh()
    assert router.search(SearchRequest(WORDS[0])).generation == first + 1
    (store / "manifest.json").write_bytes(before)
    for shard in shards:
        shard.refresh()
        shard._generations.expire()
    answer = router.search(SearchRequest(WORDS[0]))
    assert (answer.generation, answer.coverage.complete) == (first, True)


def test_shards_of_which_one_waits_for_the_other(
    store: Path, live: Callable[..., LiveShard], more: Callable[[Path, int, int], None], route: Route
) -> None:
    early, late = live(store, (0, 2), linger_s=0.0), live(store, (1, 2))
    router = route([early, late])
    first = router.search(SearchRequest(WORDS[0])).generation
    more(store, 2000, 30)
    early.refresh()
    early._generations.expire()
    threading.Timer(0.2, late.refresh).start()
    answer = router.search(SearchRequest(WORDS[0]))
    assert (answer.generation, answer.coverage.complete) == (first + 1, True)


def test_generations_over_the_wire(
    store: Path,
    live: Callable[..., LiveShard],
    more: Callable[[Path, int, int], None],
) -> None:
    shard = live(store)
    server = RpcServer("127.0.0.1:0", shard=shard)
    remote = RemoteShard(server.start())
    first = remote.describe().generation
    wanted = remote.search(questions()[2])
    more(store, 2000, 30)
    shard.refresh()
    assert remote.describe().generations == (first, first + 1)
    assert (remote.describe().passages, remote.describe(generation=first).passages) == (1230, 1200)
    again = remote.search(replace(questions()[2], generation=first))
    assert again == replace(wanted, generations=(first, first + 1))
    assert again.passages_total == 1200
    rows = [(candidate.segment, candidate.row) for candidate in again.dense]
    assert remote.fetch(rows, generation=first) == remote.fetch(rows)
    assert (remote.fetch_vectors(rows, generation=first) == remote.fetch_vectors(rows)).all()
    assert remote.bm25_statistics("sky", generation=first)[1].document_count == 1200
    assert remote.bm25_statistics("sky")[1].document_count == 1230
    calls: list[Callable[[], object]] = [
        lambda: remote.describe(generation=99),
        lambda: remote.search(replace(questions()[0], generation=99)),
        lambda: remote.bm25_statistics("sky", generation=99),
        lambda: remote.fetch(rows, generation=99),
        lambda: remote.fetch_vectors(rows, generation=99),
        lambda: remote.lookup([], generation=99),
    ]
    for call in calls:
        with pytest.raises(FailedPrecondition, match=f"holds the generations {first}, {first + 1}; 99 was") as caught:
            call()
        assert is_not_held(caught.value)
    remote.close()
    server.stop(0)
