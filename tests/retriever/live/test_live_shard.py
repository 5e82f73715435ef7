"""A shard that moves to new generations while it answers."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from datastore.errors import DataLoss, FailedPrecondition, PergamonError
from datastore.keeping.compaction import compact
from datastore.keeping.deletion import delete
from datastore.store.manifest import read_manifest
from retriever.api import SearchRequest
from retriever.live_shard import LiveShard
from retriever.local_shard import LocalShard
from retriever.shard import is_not_held
from tests.retriever.live.conftest import WORDS, Eventually, Route, questions, same_answers


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
    assert shard.search(questions()[2]).dense  # checksums are compared by then, at the paths that files have
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
