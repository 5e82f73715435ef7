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

from datastore.ann.index import candidates, load_template, train_template
from datastore.errors import DataLoss
from datastore.store.vectors import VectorFile, VectorWriter, inner_products

if TYPE_CHECKING:
    from tests.datastore.ann.conftest import Built

ALL_LISTS = 16
FEW_LISTS = 6


def test_candidates_are_rows(built: Built, queries: NDArray[np.float32]) -> None:
    for query in queries:
        rows = built.search(query, 50)
        assert rows.dtype == np.int64
        assert 50 <= len(rows) <= 50 * built.spec.copies
        assert (np.diff(rows) > 0).all()
        assert rows.min() >= 0
        assert rows.max() < len(built.vectors)


def test_scores_are_near_the_exact_ones(built: Built, queries: NDArray[np.float32]) -> None:
    scores, rows = built.whole.search(queries, 50, ALL_LISTS, None)
    tolerance = 1e-5 if built.template.exact else 0.75 if built.spec.bits == 1 else 0.35
    correlations = []
    for query, approximate, found in zip(queries, scores, rows, strict=True):
        exact = built.vectors[found] @ query
        assert np.abs(approximate - exact).max() < tolerance
        correlations.append(np.corrcoef(approximate, exact)[0, 1])
    assert np.mean(correlations) > 0.4  # among the best 50 alone


def test_recall_after_exact_rerank(built: Built, queries: NDArray[np.float32]) -> None:
    """Recall@10 of 100 candidates in the nearest lists, reranked; a passage as good as the tenth counts."""
    recalled = []
    for query in queries:
        truth = inner_products(built.vectors, query)
        tenth = np.sort(truth)[-10]
        rows = built.search(query, 100, FEW_LISTS)
        reranked = np.sort(inner_products(built.vectors[rows], query))[-10:]
        recalled.append((reranked >= tenth).mean())
    assert np.mean(recalled) >= (1.0 if built.template.exact else 0.95)


def test_several_segments_are_as_one(built: Built, queries: NDArray[np.float32]) -> None:
    for query in queries:
        whole, whole_rows = (found[0] for found in built.whole.search(query[None], 60, FEW_LISTS, None))
        parts, parts_rows = (found[0] for found in built.parts.search(query[None], 60, FEW_LISTS, None))
        np.testing.assert_allclose(np.sort(parts), np.sort(whole), rtol=1e-6)
        cut = whole.min() + 1e-6  # candidates that tie with the last one may be either
        assert set(whole_rows[whole > cut].tolist()) == set(parts_rows[parts > cut].tolist())


def test_a_batch_is_as_its_queries_alone(built: Built, queries: NDArray[np.float32]) -> None:
    together = candidates(built.parts, queries, 40, FEW_LISTS)
    for query, rows in zip(queries, together, strict=True):
        alone = built.search_parts(query, 40, FEW_LISTS)
        # Codes tie often, and which of those at the cut is found may differ.
        assert len(np.intersect1d(rows, alone)) >= 0.9 * len(alone)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
def test_only_accepted_rows_are_found(built: Built, queries: NDArray[np.float32], share: float) -> None:
    accepted = np.random.default_rng(5).random(len(built.vectors)) < share
    bitmap = np.packbits(accepted, bitorder="little")
    for query in queries[:10]:
        for rows in (built.search(query, 30, 16, bitmap), built.search_parts(query, 30, 16, bitmap)):
            assert accepted[rows].all()
            assert len(rows) >= min(30, accepted.sum())
    nothing = np.zeros_like(bitmap)
    assert len(built.search_parts(queries[0], 30, 16, nothing)) == 0


def test_fewer_than_asked_is_a_shorter_list(built: Built, queries: NDArray[np.float32]) -> None:
    count = len(built.vectors)
    for rows in (built.search(queries[0], 3 * count), built.search_parts(queries[0], 3 * count)):
        assert rows.tolist() == list(range(count))
    some = built.search(queries[0], 3 * count, nprobe=1)
    assert 0 < len(some) <= count
    assert len(some) == count if built.template.exact else len(some) < count


def test_no_segments(built: Built, queries: NDArray[np.float32]) -> None:
    index = built.template.open([], [])
    assert [len(rows) for rows in candidates(index, queries[:2], 10, ALL_LISTS)] == [0, 0]


def test_a_query_of_zeros(built: Built) -> None:
    assert len(built.search(np.zeros(built.spec.dimension, np.float32), 10)) >= 10 / built.spec.copies


def test_more_lists_than_there_are(built: Built, queries: NDArray[np.float32]) -> None:
    assert built.search(queries[0], 20, 1 << 20).tolist() == built.search(queries[0], 20, ALL_LISTS).tolist()


def test_reloaded_it_answers_the_same(built: Built, queries: NDArray[np.float32]) -> None:
    path = built.folder / "template"
    template = load_template(built.spec, path if path.exists() else None)
    stored = VectorFile(built.folder / "whole.f16", *built.vectors.shape)
    again = template.open([built.folder / "whole.ann"], [stored])
    for query in queries:
        rows = candidates(again, query[None], 50, FEW_LISTS)[0]
        assert rows.tolist() == built.search(query, 50, FEW_LISTS).tolist()
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
        nprobe: [built.search_parts(query, 30, nprobe).tolist() for query in queries] for nprobe in (1, 2, 5, ALL_LISTS)
    }
    wrong: list[int] = []

    def search(nprobe: int) -> None:
        for _ in range(5):
            seen = [built.search_parts(query, 30, nprobe).tolist() for query in queries]
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
    with pytest.raises(DataLoss, match=r"part2\.ann has .*; (wanted|1300 codes|2600 codes)"):
        built.template.open([built.folder / "part2.ann"], [stored])
    with pytest.raises(DataLoss, match=r"template has .* wanted .*99"):
        load_template(replace(built.spec, nlist=99), built.folder / "template")
    with pytest.raises(DataLoss, match="names no template"):
        load_template(built.spec, None)
    for content in (b"", b"IwPQ", b"PK\x03\x04", b"something else" * 100):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(DataLoss, match=f"{tmp_path / 'x'} cannot be read"):
            load_template(built.spec, tmp_path / "x")
        with pytest.raises(DataLoss, match=f"{tmp_path / 'x'} (cannot be read|has)"):
            built.template.open([tmp_path / "x"], [stored])
    with pytest.raises(DataLoss, match="No such file"):
        load_template(built.spec, tmp_path / "absent")
    with pytest.raises(DataLoss, match="No such file"):
        built.template.open([tmp_path / "absent"], [stored])
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
            built.template.open([tmp_path / "ann"], [stored])
        with pytest.raises(DataLoss, match=str(tmp_path / "template")):
            load_template(built.spec, tmp_path / "template")
    stored.close()


def test_a_segment_of_one_row(built: Built, tmp_path: Path) -> None:
    writer = VectorWriter(tmp_path / "v", built.spec.dimension)
    writer.add(built.vectors[:1])
    writer.close()
    stored = VectorFile(tmp_path / "v", 1, built.spec.dimension)
    built.template.write_segment(stored.blocks(), tmp_path / "ann")
    index = built.template.open([tmp_path / "ann"], [stored])
    assert candidates(index, built.vectors[:1], 10, ALL_LISTS)[0].tolist() == [0]
    stored.close()
