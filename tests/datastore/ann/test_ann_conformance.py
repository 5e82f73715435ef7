"""What every kind of index keeps to, held against brute force in numpy.

A new kind joins by an entry in SPECS of `conftest`.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from datastore.ann.index import AnnCandidates, load_template, search_segments, train_template
from datastore.errors import DataLoss
from datastore.store.vectors import VectorFile, VectorWriter, inner_products

if TYPE_CHECKING:
    from tests.datastore.ann.conftest import Built

ALL_LISTS = 16
FEW_LISTS = 6


def best(found: AnnCandidates) -> list[tuple[float, int]]:
    """Candidates best first, ties by row."""
    return sorted(zip((-found.scores).tolist(), found.rows.tolist(), strict=True))


def test_candidates_are_rows_with_scores(built: Built, queries: NDArray[np.float32]) -> None:
    for query in queries:
        found = built.search(query, 50)
        assert (found.segments.dtype.name, found.rows.dtype.name, found.scores.dtype.name) == (
            "int64",
            "int64",
            "float32",
        )
        assert len(found.segments) == len(found.rows) == len(found.scores) == 50
        assert len(set(found.rows.tolist())) == 50
        assert found.rows.min() >= 0
        assert found.rows.max() < len(built.vectors)
        # The codes are approximate, yet near the truth.
        exact = built.vectors[found.rows] @ query
        assert np.abs(found.scores - exact).max() < (1e-5 if built.template.exact else 0.35)


def test_recall_after_exact_rerank(built: Built, queries: NDArray[np.float32]) -> None:
    """Recall@10 of 100 candidates in the nearest lists, reranked; a passage as good as the tenth counts."""
    recalled = []
    for query in queries:
        truth = inner_products(built.vectors, query)
        tenth = np.sort(truth)[-10]
        rows = built.search(query, 100, FEW_LISTS).rows
        reranked = np.sort(inner_products(built.vectors[rows], query))[-10:]
        recalled.append((reranked >= tenth).mean())
    assert np.mean(recalled) >= (1.0 if built.template.exact else 0.95)


def test_several_segments_are_as_one(built: Built, queries: NDArray[np.float32]) -> None:
    for query in queries:
        whole, parts = best(built.search(query, 60)), best(built.search_parts(query, 60))
        np.testing.assert_allclose([score for score, _ in parts], [score for score, _ in whole], rtol=1e-6)
        cut = whole[-1][0] - 1e-6  # candidates that tie with the last one may be either
        assert {row for score, row in whole if score < cut} == {row for score, row in parts if score < cut}


def test_fewer_than_asked_is_a_shorter_list(built: Built, queries: NDArray[np.float32]) -> None:
    count = len(built.vectors)
    for found in (built.search(queries[0], 3 * count), built.search_parts(queries[0], 3 * count)):
        assert sorted(found.rows.tolist()) == list(range(count))
    some = built.search(queries[0], 3 * count, nprobe=1)
    assert 0 < len(some.rows) <= count
    assert some.rows.min() >= 0
    assert len(some.rows) == count if built.template.exact else len(some.rows) < count


def test_no_segments(built: Built, queries: NDArray[np.float32]) -> None:
    found = search_segments(built.template, [], queries[0], 10, ALL_LISTS)
    assert len(found.rows) == len(found.segments) == len(found.scores) == 0


def test_a_query_of_zeros(built: Built) -> None:
    found = built.search(np.zeros(built.spec.dimension, np.float32), 10)
    assert len(found.rows) == 10
    assert (found.scores == 0).all()


def test_more_lists_than_there_are(built: Built, queries: NDArray[np.float32]) -> None:
    assert best(built.search(queries[0], 20, 1 << 20)) == best(built.search(queries[0], 20, ALL_LISTS))


def test_reloaded_it_answers_the_same(built: Built, queries: NDArray[np.float32]) -> None:
    path = built.folder / "template"
    template = load_template(built.spec, path if path.exists() else None)
    stored = VectorFile(built.folder / "whole.f16", *built.vectors.shape)
    again = [template.open_segment(built.folder / "whole.ann", stored)]
    for query in queries:
        assert best(search_segments(template, again, query, 50, FEW_LISTS)) == best(built.search(query, 50, FEW_LISTS))
    stored.close()


def test_training_is_deterministic(built: Built, tmp_path: Path) -> None:
    """The same sample and seed give the same bytes; another seed gives others, where there is anything to train."""
    sample = built.vectors[: built.spec.train_vectors]
    specs = [built.spec, built.spec, replace(built.spec, seed=built.spec.seed + 1)]
    saved = [train_template(spec, sample).save(tmp_path / str(i)) for i, spec in enumerate(specs)]
    assert saved == [not built.template.exact] * 3
    if any(saved):
        first, same, other = ((tmp_path / str(i)).read_bytes() for i in range(3))
        assert first == same == (built.folder / "template").read_bytes()
        assert first != other


def test_from_many_threads(built: Built, queries: NDArray[np.float32]) -> None:
    """Each thread with its own number of lists, which must not leak into the others."""
    expected = {
        nprobe: [best(built.search_parts(query, 30, nprobe)) for query in queries] for nprobe in (1, 2, 5, ALL_LISTS)
    }
    wrong: list[int] = []

    def search(nprobe: int) -> None:
        for _ in range(5):
            seen = [best(built.search_parts(query, 30, nprobe)) for query in queries]
            wrong.extend(i for i in range(len(queries)) if seen[i] != expected[nprobe][i])

    threads = [threading.Thread(target=search, args=(nprobe,)) for nprobe in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_file_of_another_index_or_none(built: Built, tmp_path: Path) -> None:
    if built.template.exact:
        pytest.skip("a flat index has no files")
    stored = VectorFile(built.folder / "part0.f16", 1300, built.spec.dimension)
    with pytest.raises(DataLoss, match=r"part2\.ann has \(rows, .*\) \(1199, .* wanted \(1300, "):
        built.template.open_segment(built.folder / "part2.ann", stored)
    with pytest.raises(DataLoss, match=r"template has \(dimension, nlist, pq_m\) \(32, 16, 8\); wanted \(32, 99, 8\)"):
        load_template(replace(built.spec, nlist=99), built.folder / "template")
    with pytest.raises(DataLoss, match="names no template"):
        load_template(built.spec, None)
    for content in (b"", b"IwPQ", b"something else" * 100):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(DataLoss, match=f"{tmp_path / 'x'} cannot be read"):
            load_template(built.spec, tmp_path / "x")
        with pytest.raises(DataLoss, match=f"{tmp_path / 'x'} cannot be read"):
            built.template.open_segment(tmp_path / "x", stored)
    with pytest.raises(DataLoss, match="No such file"):
        load_template(built.spec, tmp_path / "absent")
    stored.close()


def test_a_file_cut_short(built: Built, tmp_path: Path) -> None:
    if built.template.exact:
        pytest.skip("a flat index has no files")
    stored = VectorFile(built.folder / "part0.f16", 1300, built.spec.dimension)
    segment, template = (built.folder / "part0.ann").read_bytes(), (built.folder / "template").read_bytes()
    for share in (0.01, 0.1, 0.5, 0.9, 0.999):
        (tmp_path / "ann").write_bytes(segment[: int(share * len(segment))])
        (tmp_path / "template").write_bytes(template[: int(share * len(template))])
        with pytest.raises(DataLoss, match=str(tmp_path / "ann")):
            built.template.open_segment(tmp_path / "ann", stored)
        with pytest.raises(DataLoss, match=str(tmp_path / "template")):
            load_template(built.spec, tmp_path / "template")
    stored.close()


def test_a_segment_of_one_row(built: Built, tmp_path: Path) -> None:
    writer = VectorWriter(tmp_path / "v", built.spec.dimension)
    writer.add(built.vectors[:1])
    writer.close()
    stored = VectorFile(tmp_path / "v", 1, built.spec.dimension)
    built.template.write_segment(stored.blocks(), tmp_path / "ann")
    segment = built.template.open_segment(tmp_path / "ann", stored)
    found = search_segments(built.template, [segment], built.vectors[0], 10, ALL_LISTS)
    assert found.rows.tolist() == [0]
    stored.close()
