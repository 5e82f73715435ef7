from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.ann.dataset import Dataset, DatasetPlan, take_arrays
from bench.ann.measure import Setup


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """5,000 unit vectors around 50 centres, and 200 queries like them."""
    folder = tmp_path_factory.mktemp("dataset")
    generator = np.random.default_rng(3)
    centres = generator.normal(size=(50, 32))
    points = centres[generator.integers(50, size=5200)] + 0.6 * generator.normal(size=(5200, 32))
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    np.save(folder / "base_in.npy", points[:5000])
    np.save(folder / "queries_in.npy", points[5000:])
    return take_arrays(folder / "base_in.npy", folder / "queries_in.npy", DatasetPlan(), folder / "made")


@pytest.fixture
def setup(dataset: Dataset, tmp_path: Path) -> Setup:
    return Setup(dataset, tmp_path, cores=(0,), single_budget_s=0.2, batch_budget_s=0.2)
