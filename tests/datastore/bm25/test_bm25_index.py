from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from datastore.bm25 import index as index_module
from datastore.bm25.analysis import ANALYZERS
from datastore.bm25.index import Bm25Index, Bm25Writer
from datastore.errors import AlreadyExists, FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from tests.datastore.bm25.conftest import MakeIndex


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_rows_keep_their_order_through_flushes_and_merges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "_WRITE_BUFFER_MB", 0.3)  # dozens of flushes
    count = 20_000
    filler = " ".join(f"word{i}" for i in range(20))
    with Bm25Writer(tmp_path / "bm25") as writer:
        for start in range(0, count, 1111):
            writer.add([f"passage unique{row} {filler}" for row in range(start, min(start + 1111, count))])
    index = Bm25Index([tmp_path / "bm25"], "english")
    assert index.passage_count == count
    for row in [*range(0, count, 271), 1, 4095, 4096, 4097, count - 1]:
        rows, _ = index.search(f"unique{row}", 5)
        assert rows.tolist() == [row]
    rows, scores = index.search("passage", 10_000)
    assert rows.tolist() == list(range(10_000)), "equal scores come in row order"
    assert len(set(scores.tolist())) == 1
    index.close()


def test_segments_have_consecutive_global_rows(make_index: MakeIndex) -> None:
    index = make_index(["red fox", "red hen"], [], ["", "blue fox"], ["red red fox fox"])
    assert index.passage_count == 5
    rows, scores = index.search("fox", 10)
    assert rows.dtype == np.int64
    assert scores.dtype == np.float32
    assert set(rows.tolist()) == {0, 3, 4}
    assert index.search("blue", 10)[0].tolist() == [3]
    assert index.search("fox", 2)[0].tolist() == rows[:2].tolist()


def test_no_segments(make_index: MakeIndex) -> None:
    index = make_index()
    assert index.passage_count == 0
    assert index.search("fox", 3)[0].tolist() == []
    assert index.statistics("fox").document_frequencies == {"fox": 0}


def test_a_word_counts_as_often_as_the_query_says_it(make_index: MakeIndex) -> None:
    index = make_index(["red fox", "blue hen", "green owl"])
    (once,), (thrice,) = index.search("fox", 1)[1], index.search("fox Fox foxes", 1)[1]
    assert thrice == pytest.approx(3 * once)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "   ",
        "the of and",
        "?!... --- ((",
        "\0\0",
        "\n\t",
        "\ud83d",
        "🦊",
        "x" * 10_000,
        "\u200b\u202e",
        "AND OR NOT text:*",
    ],
)
def test_any_text_is_a_query(make_index: MakeIndex, query: str) -> None:
    index = make_index(["red fox", "", "\ud83d lone \udc00 halves", "nul\0nul", "y" * 100_000])
    rows, scores = index.search(query, 5)
    assert rows.tolist() == []
    assert scores.tolist() == []
    assert index.statistics(query).document_count == 4


def test_text_beyond_ascii_is_found(make_index: MakeIndex) -> None:
    index = make_index(
        [
            "Größe über alles",
            "日本語 テキスト",
            "a 🦊 ran",
            "\U0001d518\U0001d52b",
            "x" * 300,
            "nul\0byte",
            "half \ud83d pair",
        ]
    )
    for row, query in enumerate(["größe", "日本", "🦊", "\U0001d518\U0001d52b", "x" * 300, "byte", "pair"]):
        assert index.search(query, 1)[0].tolist() == [row]


def test_a_query_as_long_as_they_are_taken(make_index: MakeIndex) -> None:
    index = make_index(["w7 fox", "w8 hen", *(f"other{i}" for i in range(50))])
    words = " ".join(f"w{i}" for i in range(17_000))[:100_000]
    assert set(index.search(words, 9)[0].tolist()) == {0, 1}
    ideographs = "".join(map(chr, [*range(0x4E00, 0x9FA6), *range(0x20000, 0x2A6D7)]))
    assert len(index.statistics(ideographs).document_frequencies) > 60_000
    assert index.search(ideographs + " fox", 9, statistics=index.statistics(ideographs + " fox"))[0].tolist() == [0]
    with pytest.raises(InvalidArgument, match="at most 131072") as caught:
        index.search(" ".join(f"w{i}" for i in range(140_000)), 9)
    assert caught.value.field == "query"


@pytest.mark.parametrize(
    ("field", "k", "k1", "b"),
    [
        ("k", 0, 0.9, 0.4),
        ("k", -1, 0.9, 0.4),
        ("k", 1 << 31, 0.9, 0.4),
        ("k1", 1, -0.1, 0.4),
        ("k1", 1, float("nan"), 0.4),
        ("k1", 1, float("inf"), 0.4),
        ("b", 1, 0.9, 1.01),
        ("b", 1, 0.9, -0.01),
    ],
)
def test_values_out_of_range_are_refused(make_index: MakeIndex, field: str, k: int, k1: float, b: float) -> None:
    index = make_index(["red fox"])
    with pytest.raises(InvalidArgument, match=f"^{field} is ") as caught:
        index.search("fox", k, k1=k1, b=b)
    assert caught.value.field == field


def test_k_may_exceed_the_index(make_index: MakeIndex) -> None:
    assert make_index(["fox", "fox"]).search("fox", (1 << 31) - 1)[0].tolist() == [0, 1]


def test_reading_writes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "bm25"
    with Bm25Writer(folder) as writer:
        writer.add(["red fox"])
    before = _files(folder)
    assert not any("lock" in name for name in before)
    folder.chmod(0o555)
    try:
        index = Bm25Index([folder], "english")
        assert index.search("fox", 1)[0].tolist() == [0]
        index.close()
    finally:
        folder.chmod(0o755)
    assert _files(folder) == before


def test_a_relative_path_follows_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Bm25Writer(Path("größe", "bm25")) as writer:
        writer.add(["red fox"])
    assert Bm25Index([tmp_path / "größe" / "bm25"], "english").passage_count == 1


def test_a_writer_wants_an_empty_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(AlreadyExists, match="not an empty folder"):
            Bm25Writer(path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def texts() -> Iterator[str]:
        yield "red fox"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), Bm25Writer(tmp_path / "bm25") as writer:
        writer.add(texts())
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_finished_writer_takes_no_more(tmp_path: Path) -> None:
    writer = Bm25Writer(tmp_path / "bm25")
    writer.add(["red fox"])
    writer.finish()
    writer.abort()
    with pytest.raises(FailedPrecondition, match="closed"):
        writer.add(["red hen"])
    assert Bm25Index([tmp_path / "bm25"], "english").passage_count == 1


def test_a_closed_index_says_so(make_index: MakeIndex) -> None:
    index = make_index(["red fox"])
    index.close()
    index.close()
    for call in (lambda: index.search("fox", 1), lambda: index.statistics("fox")):
        with pytest.raises(FailedPrecondition, match="is closed"):
            call()


def test_many_threads_search_at_once_with_their_own_parameters(make_index: MakeIndex) -> None:
    index = make_index([f"fox {'hen ' * (i % 17)}" for i in range(500)], [f"owl fox {i}" for i in range(500)])
    settings = [(0.1 + i / 10, i / 40) for i in range(40)]
    expected = [index.search("fox owl", 100, k1=k1, b=b) for k1, b in settings]
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(index.search, "fox owl", 100, k1=k1, b=b) for _ in range(5) for k1, b in settings]
        for i, future in enumerate(futures):
            for got, wanted in zip(future.result(), expected[i % 40], strict=True):
                np.testing.assert_array_equal(got, wanted)


def test_closing_waits_for_the_searches_under_way(make_index: MakeIndex) -> None:
    index = make_index([f"fox {i}" for i in range(2000)])

    def search_until_closed() -> int:
        for done in range(1_000_000):
            try:
                assert len(index.search("fox", 1000)[0]) == 1000
            except FailedPrecondition:
                return done
        raise AssertionError("the index never closed")

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(search_until_closed) for _ in range(4)]
        while not any(future.running() for future in futures):
            pass
        index.close()
        assert all(future.result() >= 0 for future in futures)


def test_an_unknown_analyzer_is_refused_by_name(tmp_path: Path) -> None:
    wanted = "'klingon'; wanted one of english, "
    with pytest.raises(InvalidArgument, match=wanted):
        Bm25Writer(tmp_path / "bm25", "klingon")
    with pytest.raises(InvalidArgument, match=wanted):
        Bm25Index([], "klingon")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("analyzer", ANALYZERS)
def test_every_analyzer_finds_what_it_indexed(make_index: MakeIndex, analyzer: str) -> None:
    passages = ["東京都の大きな図書館", "مكتبة كبيرة", "বড় গ্রন্থাগার", "बड़ा पुस्तकालय", "большая библиотека", "libraries"]
    index = make_index(passages, analyzer=analyzer)
    found = [index.search(passage, 1)[0].tolist() for passage in passages]
    # Kuromoji knows no Arabic and no Indic letters.
    assert found == [[0], [], [], [], [4], [5]] if analyzer == "japanese" else [[row] for row in range(len(passages))]


def test_english_stems_and_japanese_splits(make_index: MakeIndex) -> None:
    assert make_index(["The library's readers"]).search("reader of libraries", 1)[0].tolist() == [0]
    assert make_index(["東京都の大きな図書館"], analyzer="japanese").search("図書館", 1)[0].tolist() == [0]


def test_importing_starts_no_java() -> None:
    assert os.spawnv(os.P_WAIT, sys.executable, [
        sys.executable, "-c", "import sys, datastore.bm25.index; sys.exit('jpype' in sys.modules)",
    ]) == 0  # fmt: skip
