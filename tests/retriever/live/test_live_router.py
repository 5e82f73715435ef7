"""A router over shards that move to new generations one after another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from datastore.errors import FailedPrecondition, Unavailable
from datastore.keeping.deletion import delete
from retriever import membership
from retriever.api import SearchRequest
from retriever.live_shard import LiveShard
from retriever.rpc.remote_shard import RemoteShard
from retriever.rpc.server import RpcServer
from retriever.shard import is_not_held
from tests.retriever.live.conftest import WORDS, Route, questions


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
