from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datastore.documents import Passage, PassageName
from datastore.errors import DataLoss
from datastore.store.passages import PassageStore, PassageWriter

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_ATTRIBUTES = st.dictionaries(
    _TEXT, st.one_of(_TEXT, st.booleans(), st.integers(), st.floats(allow_nan=False)), max_size=3
)
_RUNS = st.lists(
    st.tuples(_TEXT.filter(bool), st.lists(st.tuples(_TEXT, _ATTRIBUTES), min_size=1, max_size=3)),
    max_size=6,
    unique_by=lambda run: run[0],
)


def write(path: Path, passages: Sequence[Passage], at_once: int = 3) -> Path:
    writer = PassageWriter(path)
    for start in range(0, len(passages), at_once):
        writer.add(passages[start : start + at_once])
    writer.close()
    return path


def some_passages(count: int) -> list[Passage]:
    return [Passage(f"d{i // 4}", i % 4, f"text {i} " * 9, "title", "s", i, i + 9, {"y": i}) for i in range(count)]


@settings(max_examples=25, deadline=None)
@given(runs=_RUNS)
def test_round_trip(
    runs: list[tuple[str, list[tuple[str, dict[str, str | int | float | bool]]]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    passages = [
        Passage(document_id, index, text, text[::-1], document_id, index, index + len(text), attributes)
        for document_id, chunks in runs
        for index, (text, attributes) in enumerate(chunks)
    ]
    store = PassageStore(write(tmp_path_factory.mktemp("passages") / "p", passages))
    rows = list(range(len(passages)))
    assert store.get(rows) == passages
    assert store.get(rows[::-1] + rows) == passages[::-1] + passages
    assert store.find([passage.name for passage in passages]) == rows
    for document_id, run in groupby(passages, key=lambda passage: passage.document_id):
        beyond = len(list(run))
        assert store.find([PassageName(document_id, beyond), PassageName(document_id, -1)]) == [None, None]
    store.close()


def test_nothing_asked_and_nothing_held(tmp_path: Path) -> None:
    store = PassageStore(write(tmp_path / "p", []))
    assert store.get([]) == []
    assert store.find([]) == []
    assert store.find([PassageName("d", 0), PassageName("\ud800", 0), PassageName("", 0)]) == [None] * 3
    with pytest.raises(DataLoss, match="no passage at row 0"):
        store.get([0])
    store.close()


def test_many_rows_in_several_tables(tmp_path: Path) -> None:
    noise = random.Random(0)  # does not compress: about 90 MB, more than fits a table of 64 MiB
    texts = [noise.randbytes(1 << 20).decode("latin-1") for _ in range(64)]
    passages = [Passage(f"d{i // 2}", i % 2, text, "", "", 0, 1 << 20) for i, text in enumerate(texts)]
    path = write(tmp_path / "p", passages, at_once=8)
    assert len(list(path.glob("*.sst"))) > 1
    store = PassageStore(path)
    for start in range(0, len(passages), 16):
        assert store.get(range(start, start + 16)) == passages[start : start + 16]
    assert store.find([passage.name for passage in passages]) == list(range(len(passages)))
    store.close()


def test_from_many_threads(tmp_path: Path) -> None:
    passages = some_passages(2000)
    store = PassageStore(write(tmp_path / "p", passages, at_once=512))
    wrong = []

    def read(seed: int) -> None:
        choose = random.Random(seed)
        for _ in range(50):
            rows = [choose.randrange(2000) for _ in range(20)]
            if store.get(rows) != [passages[row] for row in rows]:
                wrong.append(rows)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    assert not wrong


def test_reading_changes_nothing_in_the_folder(tmp_path: Path) -> None:
    path = write(tmp_path / "p", some_passages(100))

    def state() -> list[tuple[str, int, bytes]]:
        return [(file.name, file.stat().st_mtime_ns, file.read_bytes()) for file in sorted(path.iterdir())]

    before, changed = state(), path.stat().st_mtime_ns
    store = PassageStore(path)
    store.get(range(100))
    store.close()
    assert state() == before
    assert path.stat().st_mtime_ns == changed


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataLoss, match=str(tmp_path / "absent")):
        PassageStore(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_damage_is_found_or_harmless(tmp_path: Path) -> None:
    """A file cut short or with one byte changed: every passage is read right, or DataLoss names the folder."""
    passages = some_passages(300)
    path = write(tmp_path / "p", passages, at_once=512)
    found = []
    for file in sorted(path.iterdir()):
        content = file.read_bytes()
        size = len(content)
        flips = [
            content[:at] + bytes([content[at] ^ 0x41]) + content[at + 1 :] for at in range(0, size, 1 + size // 12)
        ]
        for damaged in [*flips, *(content[:length] for length in {0, size // 2, size - 1} if 0 <= length < size)]:
            file.write_bytes(damaged)
            try:
                store = PassageStore(path)
                try:
                    assert store.get(range(300)) == passages
                finally:
                    store.close()
            except DataLoss as error:
                found.append(str(error))
        file.write_bytes(content)
    assert len(found) > 20
    assert all(str(path) in message and "\n" not in message for message in found)
