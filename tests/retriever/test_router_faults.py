"""Shards that fail, hang or do not belong: an answer says what it rests on."""

from __future__ import annotations

import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from datastore.documents import PassageName
from datastore.errors import DeadlineExceeded, FailedPrecondition, Unavailable
from datastore.store.manifest import publish, read_manifest
from retriever.api import Mode, SearchRequest, SearchResponse
from retriever.local_shard import LocalShard
from retriever.router import Router
from retriever.rpc.remote_shard import RemoteShard
from retriever.shard import Shard

TWIN = "granite harbour lantern under a copper sky"
Route = Callable[[Sequence[Shard]], Router]
Sharded = Callable[[Path, int], Router]


class Servers(Protocol):
    def shards(self, store: Path, count: int) -> list[str]: ...

    def start(self, *commands: Sequence[str | Path], listen: str = ...) -> list[str]: ...

    def kill(self, address: str) -> None: ...

    def signal(self, address: str, number: int) -> None: ...


def names(response: SearchResponse) -> list[PassageName]:
    return [hit.name for hit in response.hits]


def test_shards_of_two_datastores_are_refused(flat_store: Path, two_segments: Path, route: Route) -> None:
    mixed = route([LocalShard(flat_store, (0, 2)), LocalShard(two_segments, (1, 2))])
    with pytest.raises(FailedPrecondition, match=r"1/2 of datastore .*0/2 of .*shards of one datastore"):
        mixed.search(SearchRequest("sky"))
    uneven = route([LocalShard(flat_store, (0, 2)), LocalShard(flat_store, (1, 3))])
    with pytest.raises(FailedPrecondition, match=r"shards of one datastore"):
        uneven.search(SearchRequest("sky"))
    twice = route([LocalShard(flat_store, (0, 2)), LocalShard(flat_store, (0, 2))])
    with pytest.raises(FailedPrecondition, match="both serve shard 0/2"):
        twice.search(SearchRequest("sky"))


def test_a_shard_without_an_address_lowers_coverage(flat_store: Path, route: Route, sharded: Sharded) -> None:
    shard = LocalShard(flat_store, (0, 2))
    router = route([shard])
    coverage = router.search(SearchRequest("sky")).coverage
    assert (coverage.shards_total, coverage.shards_ok, coverage.complete) == (2, 1, False)
    assert coverage.passages_searched == shard.describe().passages < coverage.passages_total
    assert coverage.failures == {"shard 1/2": "no address of it was given"}
    with pytest.raises(Unavailable, match=r"1 of 2 shards did not answer \(shard 1/2"):
        router.search(SearchRequest("sky", require_complete=True))
    with pytest.raises(Unavailable, match="shard 1/2"):  # it might hold them
        router.get_passages([PassageName("text-1", 0)])


def test_a_shard_of_an_older_generation_does_not_count(flat_store: Path, route: Route, tmp_path: Path) -> None:
    newer = Path(shutil.copytree(flat_store, tmp_path / "newer"))
    publish(newer, replace(read_manifest(newer), generation=2))
    old, new = LocalShard(flat_store, (0, 2)), LocalShard(newer, (1, 2))
    response = route([old, new]).search(SearchRequest(TWIN, 50))
    assert response.generation == 2
    assert response.coverage.passages_searched == new.describe().passages
    assert list(response.coverage.failures) == [old.name]
    assert "holds generation 1, and others answer from 2" in response.coverage.failures[old.name]
    assert all(passage is not None for passage in new.lookup(names(response)))


def test_a_shard_that_became_another_between_two_queries(flat_store: Path, two_segments: Path, route: Route) -> None:
    """As behind an address where a server was started anew, with no call in between that failed."""

    class Moved(LocalShard):
        def move(self, store: Path, part: tuple[int, int]) -> None:
            self.close()
            super().__init__(store, part)

    for store, part in [(two_segments, (1, 2)), (flat_store, (0, 2)), (flat_store, (1, 3))]:
        moving = Moved(flat_store, (1, 2))
        router = route([LocalShard(flat_store, (0, 2)), moving])
        assert router.search(SearchRequest(TWIN)).coverage.complete
        moving.move(store, part)
        with pytest.raises(FailedPrecondition, match=r"and before 1/2 of .*one datastore"):
            router.search(SearchRequest(TWIN))


def test_time_that_is_over(flat_store: Path, sharded: Sharded) -> None:
    with pytest.raises(DeadlineExceeded, match="0 s allowed"):
        sharded(flat_store, 2).search(SearchRequest("sky", timeout_s=0.0))


@pytest.fixture
def closed_port() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{unused.getsockname()[1]}"


@pytest.mark.parametrize("mode", ["hybrid", "dense", "bm25"])
def test_a_shard_that_nobody_serves(flat_store: Path, route: Route, closed_port: str, mode: Mode) -> None:
    alive = LocalShard(flat_store, (1, 2))
    router = route([RemoteShard(closed_port), alive])
    request = SearchRequest("sky lantern", 20, mode)
    response = router.search(request)
    assert len(response.hits) == 20
    assert all(passage is not None for passage in alive.lookup(names(response)))
    assert response.coverage.passages_searched == alive.describe().passages
    assert list(response.coverage.failures) == [closed_port]
    with pytest.raises(Unavailable, match=f"1 of 2 shards did not answer .*{closed_port}"):
        router.search(replace(request, require_complete=True))
    with pytest.raises(Unavailable, match=closed_port):
        router.get_passages(names(response)[:1])


def test_no_shard_at_all(route: Route, closed_port: str) -> None:
    router = route([RemoteShard(closed_port)])
    for ask in (lambda: router.search(SearchRequest("sky", mode="bm25")), router.info):
        with pytest.raises(Unavailable, match="cannot be reached"):
            ask()


def test_a_killed_shard(
    servers: Servers, two_segments: Path, route: Route, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    first, second = servers.shards(two_segments, 2)
    router = route([RemoteShard(first), RemoteShard(second)])
    whole = router.search(SearchRequest(TWIN, 20))
    assert whole.coverage.complete
    servers.kill(first)
    partial = router.search(SearchRequest(TWIN, 20))
    assert list(partial.coverage.failures) == [first]
    assert 0 < partial.coverage.passages_searched < partial.coverage.passages_total == router.info().passages
    with pytest.raises(Unavailable, match=first):
        router.search(SearchRequest(TWIN, 20, require_complete=True))

    servers.start(["serve", two_segments, "--shard", "0/2", "--warm-up-s", "0"], listen=first)
    eventually(lambda: router.search(SearchRequest(TWIN, 20)).coverage.complete)
    assert router.search(SearchRequest(TWIN, 20)).hits == whole.hits


def test_another_datastore_at_a_known_address_is_refused(
    servers: Servers,
    two_segments: Path,
    flat_store: Path,
    route: Route,
    eventually: Callable[[Callable[[], bool]], None],
) -> None:
    (address,) = servers.shards(two_segments, 1)
    router = route([RemoteShard(address)])
    router.search(SearchRequest(TWIN))
    servers.kill(address)
    with pytest.raises(Unavailable):
        router.search(SearchRequest(TWIN))
    servers.start(["serve", flat_store, "--warm-up-s", "0"], listen=address)

    def connected() -> bool:
        try:
            router.search(SearchRequest(TWIN))
        except Unavailable:
            return False  # the client waits a little before it connects again
        except FailedPrecondition:
            pass
        return True

    eventually(connected)
    with pytest.raises(FailedPrecondition, match="restart the router"):
        router.search(SearchRequest(TWIN))


def test_a_shard_that_hangs(servers: Servers, two_segments: Path, route: Route) -> None:
    stopped, alive = servers.shards(two_segments, 2)
    router = route([RemoteShard(stopped), RemoteShard(alive)])
    assert router.search(SearchRequest(TWIN)).coverage.complete
    servers.signal(stopped, signal.SIGSTOP)
    modes: tuple[Mode, ...] = ("hybrid", "dense", "bm25")
    for mode in modes:
        begin = time.monotonic()
        response = router.search(SearchRequest(TWIN, mode=mode, timeout_s=1.5))
        assert time.monotonic() - begin < 1.5
        assert len(response.hits) == 10
        assert list(response.coverage.failures) == [stopped]
    with pytest.raises(Unavailable, match=stopped):
        router.search(SearchRequest(TWIN, timeout_s=1.5, require_complete=True))

    # Many calls that hang hold up none to the other shard, not even when they outnumber the threads.
    def search(_: int) -> tuple[SearchResponse, float]:
        begin = time.monotonic()
        return router.search(SearchRequest(TWIN, timeout_s=8.0)), time.monotonic() - begin

    with ThreadPoolExecutor(24) as threads:
        answers = list(threads.map(search, range(24)))
    assert [list(response.coverage.failures) for response, _ in answers] == [[stopped]] * 24
    assert max(seconds for _, seconds in answers) < 8.0

    servers.signal(stopped, signal.SIGCONT)
    assert router.search(SearchRequest(TWIN, timeout_s=10.0)).coverage.complete
