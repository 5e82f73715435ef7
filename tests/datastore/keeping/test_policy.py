"""Which segments are merged: few are left, and no passage is rewritten often."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest

from datastore.config import SegmentConfig, segment_limit
from datastore.keeping.policy import choose_compaction, choose_merges
from datastore.store.checksums import FileRecord
from datastore.store.manifest import Deletions, SegmentRecord

CONFIG = SegmentConfig()


def segment(generation: int, passages: int, number: int = 0, deleted: int = 0) -> SegmentRecord:
    record = SegmentRecord(f"{generation:08d}-{number:06d}", passages, passages, 0, 0, 0, ())
    return replace(record, deletions=Deletions(FileRecord("", 0, ""), deleted, deleted) if deleted else None)


def build_of(passages: int) -> list[SegmentRecord]:
    """The segments of a build."""
    records: list[SegmentRecord] = []
    total = 0
    while total < passages:
        size = min(segment_limit(CONFIG, total), passages - total)
        records.append(segment(1, size, len(records)))
        total += size
    return records


@pytest.mark.parametrize("start", [0, 60, 5_000, 1_000_000])
@pytest.mark.parametrize("size", [lambda _: 1, lambda _: 37, lambda _: 3_000, lambda chance: chance.randint(1, 20_000)])
def test_steady_additions(start: int, size: Callable[[random.Random], int]) -> None:
    chance, generations = random.Random(1), count(2)
    records = build_of(start)
    built = len(records)
    added = rewritten = 0
    for _ in range(600):
        generation = next(generations)
        records.append(segment(generation, size(chance)))
        added += records[-1].passages
        total = sum(record.passages for record in records)
        groups = choose_merges(records, segment_limit(CONFIG, total))
        for number, group in enumerate(groups, 1):
            merged = sum(records[position].passages for position in group)
            assert merged <= segment_limit(CONFIG, total)
            rewritten += merged
            records.append(segment(generation, merged, number))
        gone = {position for group in groups for position in group}
        records = [record for position, record in enumerate(records) if position not in gone]
        tiers = 1 + max(0, math.ceil(math.log(max(total, 1024) / 1024, 8)))
        assert len(records) <= built + 9 * tiers + total // 60_000
        assert sum(record.passages for record in records) == total
    small = max(1, 1024 // (added // 600))  # of the lowest tier, that many additions make one segment of the next
    assert rewritten <= added * (small + 8)


def test_what_a_build_made_side_by_side_is_left_alone() -> None:
    assert choose_merges(build_of(1_000_000), 131_072) == []
    assert len(build_of(1_000_000)) > 40


def test_few_or_large_segments_are_left_alone() -> None:
    assert choose_merges([segment(g, 5) for g in range(3)], 1024) == []
    assert choose_merges([segment(g, 1100) for g in range(7)], 131_072) == []
    assert choose_merges([segment(g, 100_000) for g in range(20)], 131_072) == []
    assert choose_merges([segment(g, 5) for g in range(4)], 1024) == [tuple(range(4))]
    assert choose_merges([segment(g, 1100) for g in range(8)], 131_072) == [tuple(range(8))]


def test_the_smallest_that_fit_are_merged() -> None:
    records = [segment(g, passages) for g, passages in enumerate([900, 10, 600, 20, 500, 800, 300, 700])]
    assert choose_merges(records, 1024) == [(1, 3, 4, 6)]


def test_a_merge_can_fill_the_next_tier() -> None:
    records = [segment(g, 1100) for g in range(7)] + [segment(10 + g, 300) for g in range(4)]
    assert choose_merges(records, 131_072) == [tuple(range(11))]


def test_deleted_passages_do_not_count() -> None:
    records = [segment(g, 5000, deleted=4990) for g in range(8)]
    assert choose_merges(records, 100) == [tuple(range(8))]


def test_compaction_takes_all_that_has_deletions_and_all_that_is_small() -> None:
    records = [
        segment(0, 900),
        segment(1, 900, deleted=1),
        segment(2, 100),
        segment(3, 950, deleted=900),
        segment(4, 90),
    ]
    assert choose_compaction(records, 1000) == [(1, 2), (3, 4)]
    assert choose_compaction([segment(0, 900), segment(1, 600)], 1000) == []
    assert choose_compaction([segment(0, 900), segment(1, 60)], 1000) == []
    assert choose_compaction([segment(1, 60, deleted=1)], 1000) == [(0,)]
    assert choose_compaction([], 1000) == []
