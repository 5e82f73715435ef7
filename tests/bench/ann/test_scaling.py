from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.ann.dataset import Dataset, take_first
from bench.ann.measure import Build, EngineResult, Point
from bench.ann.plot import plot_scaling
from bench.ann.scaling import (
    Scaling,
    SizeResult,
    codes_scanned,
    exponent,
    read_scaling,
    write_scaling,
)
from bench.ann.scaling_report import growth, planned, render_scaling
from datastore.ann.kinds.probing import ranks
from datastore.ann.spec import IndexSpec, choose_index
from datastore.config import IndexConfig
from datastore.errors import InvalidArgument, NotFound


def _point(nprobe: int, recall: float, milliseconds: float) -> Point:
    params = {"nprobe": nprobe, "depth": 30}
    return Point(params, False, recall, 0.9, milliseconds, 2 * milliseconds, 100, 500 / milliseconds, 100, 10**8, 0, 0)


def _size(vectors: int) -> SizeResult:
    """Costs grow as the square root."""
    root = vectors**0.5 / 1000
    points = [_point(8, 0.9, 0.5 * root), _point(32, 0.95, root), _point(64, 0.97, 4 * root)]
    engine = EngineResult("pergamon", Build({}, 60, 10**9, {}, 0, 10**9), 0.5, 3 * 10**7, points, 10**8, 2 * 10**8)
    scanned = {"8": 1000 * root, "32": 4000 * root, "64": 8000 * root}
    return SizeResult(vectors, {"kind": "ivf-pq4", "dimension": 256, "nlist": 8192}, 8, engine, scanned)


@pytest.fixture
def scaling() -> Scaling:
    machine = {"cpu": "C", "simd": "avx2", "logical_cpus": 2, "memory_gib": 8, "kernel": "Linux"}
    about = {"vectors_count": 10**6, "dimension": 16, "inputs": ["a", "b"], "passage_words": [6, 24]}
    return Scaling("pergamon bench ann-scaling", machine, about, [0], [_size(10**5), _size(10**6)])


def test_costs_and_their_growth(scaling: Scaling) -> None:
    at = scaling.sizes[1].at(0.95)
    assert at == {"p50_ms": 1.0, "p99_ms": 2.0, "batch_ms": 2.0, "probes": 32.0, "codes": 4000.0}
    assert scaling.sizes[1].at(0.99) is None
    for cost in ("p50_ms", "batch_ms", "codes"):
        assert growth(scaling.sizes, cost, 0.95) == pytest.approx(0.5)
    assert growth(scaling.sizes, "probes", 0.95) == pytest.approx(0)
    assert growth(scaling.sizes, "codes", 0.99) is None
    assert exponent([1, 10, 100], [3, 30, 300]) == pytest.approx(1)


def test_the_report_and_its_plot(scaling: Scaling, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write_scaling(scaling, tmp_path / "ann-scaling.json")
    assert read_scaling(tmp_path / "ann-scaling.json") == scaling
    text = render_scaling(scaling, "ann-scaling.png")
    assert "cut into passages of 6 and of 24 words" in text
    assert "| 1,000,000 | 1.00 | 2.00 | 500 | 32 | 4,000 | " in text
    assert "| exponent | 0.50 | 0.50 | 0.50 | 0.00 | 0.50 |" in text
    assert "| 1,000,000 | - | - | - | - | - | - |" in text
    plan = planned(scaling.sizes[1], 0.95)
    memory, peak = (f"{size / 1e6:,.0f}" for size in (plan.index_memory_bytes_all_shards, plan.build_peak_bytes))
    assert plan.index == choose_index(IndexConfig("ivf-pq4"), 10**6, 256)
    assert f"| 1,000,000 | 8,192 | 8 | {memory} | 70 | 170 | 70 | 70.0 | 0.5 | 60 | 1,000 | {peak} | 1,000 |" in text
    plot_scaling(scaling, tmp_path / "ann-scaling.png")
    assert (tmp_path / "ann-scaling.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(NotFound, match="holds no results"):
        read_scaling(tmp_path / "absent.json")


def test_codes_scanned_from_the_files(tmp_path: Path) -> None:
    spec = IndexSpec("ivf-pq4", 16, nlist=4, pq_m=6)
    margins = np.full(ranks(4).shape, 0.5, np.float32)
    centroids, none = np.eye(4, 16, dtype=np.float32), np.empty((0, 16, 2), np.float32)
    np.savez(tmp_path / "template.npz", centroids=centroids, coarse_codebooks=none, margins=margins)
    for name, lengths in (("a", (10, 0, 33, 1)), ("b", (20, 5, 2, 1))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ann.lists").write_bytes(np.array(lengths, "<u4").tobytes() + b"codes")
    queries = np.array([[4, 3, 2, 1] + [0] * 12, [1, 2, 3, 4] + [0] * 12], np.float32)
    scanned = codes_scanned(tmp_path, spec, queries, [1, 2, 3, 4])
    assert scanned == {"1": (30 + 2) / 2, "2": (35 + 37) / 2, "3": (70 + 42) / 2, "4": 72}


def test_the_first_vectors_as_a_dataset(dataset: Dataset, tmp_path: Path) -> None:
    made = take_first(dataset, 700, tmp_path / "made")
    np.testing.assert_array_equal(made.base, dataset.base[:700])
    np.testing.assert_array_equal(made.queries, dataset.queries)
    products = dataset.queries[: len(dataset.truth_ids)] @ made.base.astype(np.float32).T
    np.testing.assert_allclose(made.truth_scores[:, 0], products.max(axis=1), atol=1e-6)
    assert made.about["vectors_count"] == 700
    assert json.loads((tmp_path / "made" / "dataset.json").read_text())["first_of"] == 5000
    with pytest.raises(InvalidArgument, match="5001 vectors are wanted"):
        take_first(dataset, 5001, tmp_path / "more")
