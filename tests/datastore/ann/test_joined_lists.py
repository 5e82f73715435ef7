from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import datastore.ann.kinds.joined_lists as module
from datastore.ann.kinds.joined_lists import JoinedLists
from datastore.ann.kinds.list_file import Entries
from datastore.ann.spec import IndexSpec
from datastore.errors import DataLoss

SPEC = IndexSpec("ivf-pq4", 16, nlist=40, pq_m=6, copies=2)
PASSAGES = (700, 0, 1, 350)


def _segment(passages: int, seed: int) -> Entries:
    generator = np.random.default_rng(seed)
    lists = generator.integers(0, SPEC.nlist, 2 * passages) ** 2 // SPEC.nlist  # some long, some without any
    rows = np.tile(np.arange(passages), 2)
    return Entries(lists, rows, generator.integers(0, 256, (2 * passages, SPEC.code_bytes), np.uint8))


@pytest.fixture
def segments(tmp_path: Path) -> tuple[list[Path], list[Entries]]:
    paths = [tmp_path / f"{number}.lists" for number in range(len(PASSAGES))]
    entries = [_segment(passages, seed) for seed, passages in enumerate(PASSAGES)]
    for path, own in zip(paths, entries, strict=True):
        own.write(path, SPEC)
    return paths, entries


def _expected(entries: list[Entries]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """All entries by list, then by row of all segments together."""
    bases = np.cumsum([0, *PASSAGES])
    lists = np.concatenate([own.lists for own in entries])
    rows = np.concatenate([own.rows + base for own, base in zip(entries, bases, strict=False)])
    order = np.lexsort((rows, lists))
    return lists[order], rows[order], np.concatenate([own.codes for own in entries])[order]


@pytest.mark.parametrize("at_once", [1, 97, 100_000])
def test_as_if_of_one_segment(
    segments: tuple[list[Path], list[Entries]], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ENTRIES_AT_ONCE", at_once)
    lists, rows, codes = _expected(segments[1])
    with JoinedLists(segments[0], PASSAGES, SPEC) as joined:
        np.testing.assert_array_equal(joined.sizes, np.bincount(lists, minlength=SPEC.nlist))
        parts = list(joined.ranges())
    np.testing.assert_array_equal(np.concatenate([part.rows for part in parts]), rows)
    np.testing.assert_array_equal(np.concatenate([part.codes for part in parts]), codes)
    found = [
        np.repeat(np.arange(part.first, part.first + len(part.bounds) - 1), np.diff(part.bounds)) for part in parts
    ]
    np.testing.assert_array_equal(np.concatenate(found), lists)
    longest = int(np.bincount(lists).max())
    assert max(len(part.rows) for part in parts) <= max(at_once, longest)
    assert (len(parts) == 1) == (at_once > len(rows))


def test_no_segments() -> None:
    with JoinedLists([], [], SPEC) as joined:
        assert joined.sizes.tolist() == [0] * SPEC.nlist
        assert sum(len(part.rows) for part in joined.ranges()) == 0


def test_damaged_files(segments: tuple[list[Path], list[Entries]]) -> None:
    paths, _ = segments
    whole = paths[3].read_bytes()
    with pytest.raises(DataLoss, match="bytes; 698 codes"):
        JoinedLists(paths, (*PASSAGES[:3], 349), SPEC)
    lengths = np.frombuffer(whole[: 4 * SPEC.nlist], "<u4") + 1
    paths[3].write_bytes(lengths.tobytes() + whole[4 * SPEC.nlist :])
    with pytest.raises(DataLoss, match="740 codes together; wanted 700"):
        JoinedLists(paths, PASSAGES, SPEC)
    row = np.array([350], "<u4").tobytes()
    paths[3].write_bytes(whole[: 4 * SPEC.nlist] + row + whole[4 * SPEC.nlist + 4 :])
    with JoinedLists(paths, PASSAGES, SPEC) as joined, pytest.raises(DataLoss, match="row 350; wanted rows below 350"):
        list(joined.ranges())


def test_a_file_that_shrinks_under_its_reader(segments: tuple[list[Path], list[Entries]]) -> None:
    paths, _ = segments
    with JoinedLists(paths, PASSAGES, SPEC) as joined:
        with paths[0].open("r+b") as file:
            file.truncate(1000)
        with pytest.raises(DataLoss, match=r"0\.lists ends at byte"):
            list(joined.ranges())
