"""The operating curve of an index, against brute force: on the sample it is right, on other queries it holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datastore.ann.index import candidates, load_template, train_template
from datastore.ann.operating_curve import OperatingCurve, RecallCurve
from datastore.ann.spec import IndexSpec
from datastore.ann.sweep import OpenIndex, Sample, measure_curves
from datastore.store.vectors import VectorFile, VectorWriter

DIMENSION, PASSAGES, KS = 32, 4000, (10, 100)
SPECS = {
    "ivf-pq": IndexSpec("ivf-pq", DIMENSION, nlist=32, pq_m=8, train_vectors=1200),
    "ivf-pq4": IndexSpec("ivf-pq4", DIMENSION, nlist=32, pq_m=12, train_vectors=1200),
    "ivf-pq4 twice": IndexSpec("ivf-pq4", DIMENSION, nlist=32, pq_m=12, train_vectors=1200, copies=2, spill_weight=1.5),
}


@dataclass(frozen=True)
class Measured:
    over: OpenIndex
    vectors: NDArray[np.float32]
    sample: Sample
    curves: tuple[RecallCurve, ...]
    stages: list[tuple[str, int, int]]

    def recalls(self, sample: Sample, k: int, nprobe: int, depth: int) -> NDArray[np.float64]:
        """Of each query, by a sort of all products; a query's own row is no neighbour and no result."""
        found = []
        for query, own in zip(sample.vectors, sample.own.tolist(), strict=True):
            products = np.einsum("ij,j->i", self.vectors, query)
            products[own] = -np.inf
            cut = np.sort(products)[-k]
            rows = candidates(self.over.index, query[None], depth, nprobe)[0]
            found.append(min(k, (products[rows] >= cut).sum()) / k)
        return np.array(found)


def clustered() -> NDArray[np.float32]:
    """Unit vectors around 300 directions, nine of them a hundred times over; float16 values."""
    random = np.random.default_rng(8)
    centers = random.standard_normal((300, DIMENSION))
    drawn = centers[random.integers(300, size=PASSAGES)] + 0.7 * random.standard_normal((PASSAGES, DIMENSION))
    drawn[:900] = np.repeat(drawn[:9], 100, axis=0)
    drawn = drawn[random.permutation(PASSAGES)]
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn.astype(np.float16).astype(np.float32)


def draw(vectors: NDArray[np.float32], seed: int, count: int) -> Sample:
    rows = np.random.default_rng(seed).choice(len(vectors), count, replace=False)
    return Sample(vectors[rows], rows)


@pytest.fixture(scope="module", params=sorted(SPECS))
def measured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    spec, vectors, folder = SPECS[request.param], clustered(), tmp_path_factory.mktemp("sweep")
    template = train_template(spec, vectors[: spec.train_vectors])
    template.save(folder / "template")
    files = []
    for number, (start, end) in enumerate([(0, 2500), (2500, PASSAGES)]):
        writer = VectorWriter(folder / f"{number}.f16", DIMENSION)
        writer.add(vectors[start:end])
        writer.close()
        files.append(VectorFile(folder / f"{number}.f16", end - start, DIMENSION))
        template.write_segment(files[-1].blocks(), folder / f"{number}.ann")
    opened = load_template(spec, folder / "template").open([folder / "0.ann", folder / "1.ann"], files)
    over, sample, stages = OpenIndex(spec, opened, files), draw(vectors, 1, 100), list[tuple[str, int, int]]()
    curves = measure_curves(over, sample, KS, lambda *step: stages.append(step))
    yield Measured(over, vectors, sample, curves, stages)
    for file in files:
        file.close()


def test_recall_on_the_sample_is_that_of_a_search(measured: Measured) -> None:
    """But for ties of codes."""
    for curve in measured.curves:
        for point in curve.points[:: max(1, len(curve.points) // 4)]:
            shares = measured.recalls(measured.sample, curve.k, point.nprobe, point.candidate_depth)
            assert point.recall == pytest.approx(shares.mean(), abs=5e-3)
            assert point.recall_error == pytest.approx(shares.std(ddof=1) / np.sqrt(100), abs=2e-3)


def test_what_is_asked_for_is_met_on_other_queries(measured: Measured) -> None:
    curve = OperatingCurve("passages", 100, 0, 1, PASSAGES, PASSAGES, measured.curves)
    others = draw(measured.vectors, 2, 300)
    for k in KS:
        probes = []
        for recall in (0.5, 0.8, 0.9, 0.95, 0.99):
            setting = curve.setting(k, recall)
            shares = measured.recalls(others, k, setting.nprobe, setting.candidate_depth)
            assert shares.mean() >= recall - 2 * shares.std() / np.sqrt(len(shares)) - 0.002
            probes.append(setting.nprobe)
        assert probes[0] < probes[-1]


def test_the_curve_ascends_and_says_what_it_costs(measured: Measured) -> None:
    assert [curve.k for curve in measured.curves] == list(KS)
    spec = measured.over.spec
    for curve in measured.curves:
        assert 3 < len(curve.points) < 40
        assured = [point.assured for point in curve.points]
        assert assured == sorted(set(assured))
        assert curve.highest >= 0.99
        for point in curve.points:
            assert point.codes == round(point.nprobe * spec.copies * PASSAGES / spec.nlist)
            assert 0 < point.nprobe <= spec.nlist
            assert curve.k + 32 <= point.candidate_depth <= 16 * (curve.k + 32)
            assert point.milliseconds > 0


def test_a_query_does_not_find_itself(measured: Measured) -> None:
    """With every query its own nearest neighbour, one list alone would give a recall of 1 for k = 1."""
    alone = Sample(measured.vectors, np.arange(PASSAGES))
    some = Sample(alone.vectors[::40], alone.own[::40])
    (own_kept_out,) = measure_curves(measured.over, some, [1])
    (own_let_in,) = measure_curves(measured.over, Sample(some.vectors, np.full(len(some.own), -1)), [1])
    assert own_let_in.points[0].recall == pytest.approx(1.0, abs=0.02)
    assert own_kept_out.points[0].recall < 0.95


def test_the_same_again_but_for_the_time(measured: Measured) -> None:
    again = measure_curves(measured.over, measured.sample, KS)
    for one, other in zip(measured.curves, again, strict=True):
        assert [(p.nprobe, p.candidate_depth, p.recall, p.recall_error) for p in one.points] == [
            (p.nprobe, p.candidate_depth, p.recall, p.recall_error) for p in other.points
        ]


def test_progress(measured: Measured) -> None:
    stages = dict.fromkeys(stage for stage, _, _ in measured.stages)
    assert list(stages) == ["truth", "sweep"]
    for stage in stages:
        counts = [(done, total) for name, done, total in measured.stages if name == stage]
        assert counts == sorted(counts)
    assert ("truth", PASSAGES, PASSAGES) in measured.stages


def test_a_vectors_file_is_read_in_blocks(tmp_path: Path) -> None:
    vectors = clustered()[:100]
    writer = VectorWriter(tmp_path / "v.f16", DIMENSION)
    writer.add(vectors)
    writer.close()
    with VectorFile(tmp_path / "v.f16", 100, DIMENSION) as file:
        np.testing.assert_array_equal(file.read_block(0, 100), vectors)
        np.testing.assert_array_equal(file.read_block(37, 64), vectors[37:64])
