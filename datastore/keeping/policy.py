"""Which segments an addition merges: so that their number stays logarithmic, and work for each passage does too.

Segments lie in tiers by size, each eight times as large as the one below it; what is smaller than a segment of a build
is one tier. Where eight segments are in a tier, the smallest of them become one; in the lowest four, as a search pays
as much for a small segment as for a large one, and merging small ones takes little. So a passage is rewritten once a
tier, and some times in the lowest (the tiered policy of log-structured merge trees; O'Neil et al., 1996).

Segments that one writing made side by side are as large as the datastore wanted them then, and are left to `compact`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from datastore.store.manifest import SegmentRecord

_TIER_SEGMENTS = 8
_LOWEST_SEGMENTS = 4
"""That are merged in a tier, and in the lowest one."""
_SMALL = 4
"""Times a segment must be smaller than the largest to be put together with others by a compaction."""
_FLOOR = 1024
"""Passages below which all segments are of one tier."""


@dataclass(frozen=True, slots=True)
class _Merged:
    members: tuple[int, ...]
    passages: int
    alone: bool
    """Whether it came as the only one of its writing."""

    @property
    def tier(self) -> int:
        tier, least = 0, _FLOOR
        while self.passages >= least:
            tier, least = tier + 1, least * _TIER_SEGMENTS
        return tier


def choose_merges(records: Sequence[SegmentRecord], limit: int) -> list[tuple[int, ...]]:
    """Groups of positions in `records` that are to become one segment each, of at most `limit` passages."""
    written = Counter(_generation(record) for record in records)
    segments = [
        _Merged((position,), record.live_passages, written[_generation(record)] == 1)
        for position, record in enumerate(records)
    ]
    while (group := _next_merge(segments, limit)) is not None:
        members = tuple(sorted(position for segment in group for position in segment.members))
        merged = _Merged(members, sum(segment.passages for segment in group), alone=True)
        segments = [*(segment for segment in segments if segment not in group), merged]
    return [segment.members for segment in segments if len(segment.members) > 1]


def _next_merge(segments: Sequence[_Merged], limit: int) -> list[_Merged] | None:
    """The smallest segments of the lowest tier that is full, as many as fit."""
    free = sorted(
        (segment for segment in segments if segment.alone or segment.passages < _FLOOR),
        key=lambda segment: (segment.passages, segment.members),
    )
    for tier in sorted({segment.tier for segment in free}):
        mine = [segment for segment in free if segment.tier == tier]
        if len(mine) < (_TIER_SEGMENTS if tier else _LOWEST_SEGMENTS):
            continue
        fitting, passages = 0, 0
        for segment in mine:
            passages += segment.passages
            if passages > limit:
                break
            fitting += 1
        if fitting > 1:
            return mine[:fitting]
    return None


def choose_compaction(records: Sequence[SegmentRecord], limit: int) -> list[tuple[int, ...]]:
    """Groups of positions to rewrite as one segment each, so that nothing deleted is left and few segments are.

    All that have deletions are rewritten, and what has less than a quarter of `limit` passages is put together.
    """
    groups: list[list[int]] = []
    passages = 0
    for position, record in enumerate(records):
        if record.deletions is None and _SMALL * record.live_passages >= limit:
            continue
        if not groups or passages + record.live_passages > limit:
            groups.append([])
            passages = 0
        groups[-1].append(position)
        passages += record.live_passages
    return [tuple(group) for group in groups if len(group) > 1 or records[group[0]].deletions is not None]


def _generation(record: SegmentRecord) -> str:
    return record.segment_id.partition("-")[0]
