"""An index that grew by groups finds what one opened anew finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datastore.ann.groups import CoveringGroups, CutIndex, GroupedIndex, join_groups, open_groups
from datastore.ann.index import Cover, CoveringIndex, Template, candidates, train_template
from datastore.ann.spec import IndexSpec
from datastore.store.vectors import VectorFile, VectorWriter

DIMENSION = 32
SIZES = (700, 13, 1, 250, 40)
KINDS = {
    "flat": IndexSpec("flat", DIMENSION, 0, 0, 0, 1, "test"),
    "ivf-pq": IndexSpec("ivf-pq", DIMENSION, 16, 16, 700, 1, "test"),
    "ivf-pq4": IndexSpec("ivf-pq4", DIMENSION, 16, 16, 700, 1, "test", 2, 0.5),
    "ivf-rabitq": IndexSpec("ivf-rabitq", DIMENSION, 16, 0, 700, 1, "test", 2, 0.5, 1),
}


@pytest.fixture(scope="module", params=KINDS)
def spec(request: pytest.FixtureRequest) -> IndexSpec:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def opened(
    spec: IndexSpec, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Template, Sequence[Path], Sequence[VectorFile]]]:
    folder = tmp_path_factory.mktemp("groups")
    generator = np.random.default_rng(3)
    base = generator.standard_normal((sum(SIZES), DIMENSION)).astype(np.float32)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    template = train_template(spec, base[:700])
    paths, files, start = [], [], 0
    for number, size in enumerate(SIZES):
        writer = VectorWriter(folder / f"{number}.f16", DIMENSION)
        writer.add(base[start : start + size])
        writer.close()
        files.append(VectorFile(folder / f"{number}.f16", size, DIMENSION))
        paths.append(folder / f"{number}.codes")
        template.write_segment(files[-1].blocks(), paths[-1])
        start += size
    yield template, paths, files
    for file in files:
        file.close()


def queries() -> NDArray[np.float32]:
    return np.random.default_rng(4).standard_normal((7, DIMENSION)).astype(np.float32)


@pytest.mark.parametrize("open_before", [1, 2, 4])
def test_it_finds_what_one_index_finds(
    spec: IndexSpec, opened: tuple[Template, Sequence[Path], Sequence[VectorFile]], open_before: int
) -> None:
    template, paths, files = opened
    keys = list(range(len(SIZES)))
    before = open_groups(template, keys[:open_before], paths[:open_before], files[:open_before])
    groups = open_groups(template, keys, paths, files, before)
    assert len(groups) == (2 if template.joins else 1)
    assert sum(group.rows for group in groups) == sum(SIZES)
    grown, whole = join_groups(groups, spec), join_groups(open_groups(template, keys, paths, files), spec)
    assert isinstance(grown, CoveringIndex) == isinstance(whole, CoveringIndex)
    accept = np.packbits(np.random.default_rng(5).random(sum(SIZES)) < 0.3, bitorder="little")
    for some in (queries()[:1], queries()):
        for depth, nprobe in ((1, 16), (20, 3), (100, 16), (2 * sum(SIZES), 16)):
            for bitmap in (None, accept):
                grown_scores, grown_rows = grown.search(some, depth, nprobe, bitmap)
                whole_scores, whole_rows = whole.search(some, depth, nprobe, bitmap)
                same(grown_scores, grown_rows, whole_scores, whole_rows)
            if isinstance(grown, CoveringIndex) and isinstance(whole, CoveringIndex):
                in_lists = whole.count_in_lists(accept)
                assert (grown.count_in_lists(accept) == in_lists).all()
                cover = Cover(accept, in_lists, 40 * nprobe)
                same(*grown.search_covering(some, depth, cover), *whole.search_covering(some, depth, cover))


def same(
    grown_scores: NDArray[np.float32],
    grown_rows: NDArray[np.int64],
    whole_scores: NDArray[np.float32],
    whole_rows: NDArray[np.int64],
) -> None:
    """The same rows with the same scores; of those that tie with the last, any."""
    for mine, rows, wanted, wanted_rows in zip(grown_scores, grown_rows, whole_scores, whole_rows, strict=True):
        found = sorted(zip(mine[rows >= 0].tolist(), rows[rows >= 0].tolist(), strict=True), reverse=True)
        expected = sorted(
            zip(wanted[wanted_rows >= 0].tolist(), wanted_rows[wanted_rows >= 0].tolist(), strict=True), reverse=True
        )
        assert [score for score, _ in found] == pytest.approx([score for score, _ in expected], abs=1e-5)
        last = expected[-1][0] + 1e-5
        assert [row for score, row in found if score > last] == [row for score, row in expected if score > last]


@pytest.mark.parametrize("rest", [(4,), ()])
def test_the_last_of_what_is_open_may_go(
    spec: IndexSpec, opened: tuple[Template, Sequence[Path], Sequence[VectorFile]], rest: tuple[int, ...]
) -> None:
    """As where small segments have become one."""
    template, paths, files = opened
    before = open_groups(template, [3, 0, 1, 2], [paths[i] for i in (3, 0, 1, 2)], [files[i] for i in (3, 0, 1, 2)])
    wanted = [3, 0, *rest]
    some_paths, some_files = [paths[i] for i in wanted], [files[i] for i in wanted]
    groups = open_groups(template, wanted, some_paths, some_files, before)
    if spec.kind in {"ivf-pq4", "ivf-rabitq"}:
        assert isinstance(groups[0].index, CutIndex)
        assert [group.segments for group in groups] == [(3, 0), *([(4,)] if rest else [])]
    again = open_groups(template, wanted, some_paths, some_files, groups)
    assert [group.segments for group in again] == [group.segments for group in groups]
    grown, whole = join_groups(again, spec), join_groups(open_groups(template, wanted, some_paths, some_files), spec)
    accept = np.packbits(
        np.random.default_rng(6).random(sum(file.rows for file in some_files)) < 0.3, bitorder="little"
    )
    for bitmap in (None, accept):
        for depth, nprobe in ((20, 3), (100, 16), (2 * sum(SIZES), 16)):
            same(*grown.search(queries(), depth, nprobe, bitmap), *whole.search(queries(), depth, nprobe, bitmap))
    if isinstance(grown, CoveringIndex) and isinstance(whole, CoveringIndex):
        in_lists = whole.count_in_lists(accept)
        assert (grown.count_in_lists(accept) == in_lists).all()
        cover = Cover(accept, in_lists, 40)
        same(*grown.search_covering(queries(), 30, cover), *whole.search_covering(queries(), 30, cover))


def test_what_is_open_of_the_same_segments_stays(
    opened: tuple[Template, Sequence[Path], Sequence[VectorFile]], spec: IndexSpec
) -> None:
    template, paths, files = opened
    first = open_groups(template, [0, 1, 2], paths[:3], files[:3])
    assert open_groups(template, [0, 1, 2], paths[:3], files[:3], first) == first
    grown = open_groups(template, [0, 1, 2, 3], paths[:4], files[:4], first)
    assert open_groups(template, [0, 1, 2, 3], paths[:4], files[:4], grown) == grown
    if template.joins:
        assert [group.segments for group in grown] == [(0, 1, 2), (3,)]
        assert grown[0].index is first[0].index
        assert isinstance(join_groups(grown, spec), CoveringGroups if spec.nlist else GroupedIndex)
        more = open_groups(template, [0, 1, 2, 3, 4], paths, files, grown)
        assert [group.segments for group in more] == [(0, 1, 2), (3, 4)]
        # What is open of others is not taken.
        for wanted in ([1, 2], [3, 0, 1, 2], [1, 0, 2]):
            changed = open_groups(template, wanted, [paths[i] for i in wanted], [files[i] for i in wanted], first)
            assert [group.segments for group in changed] == [tuple(wanted)]


def test_candidates_of_groups_are_each_there_once(
    spec: IndexSpec, opened: tuple[Template, Sequence[Path], Sequence[VectorFile]]
) -> None:
    template, paths, files = opened
    before = open_groups(template, [0, 1], paths[:2], files[:2])
    grown = join_groups(open_groups(template, [0, 1, 2, 3, 4], paths, files, before), spec)
    for rows in candidates(grown, queries(), 5000, 16):
        assert rows.tolist() == list(range(sum(SIZES)))
