from __future__ import annotations

import numpy as np
import pytest

import datastore.ann.clustering as module


def test_centroids_do_not_depend_on_how_many_are_summed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = np.random.default_rng(0).normal(size=(2000, 8)).astype(np.float32)
    sample /= np.linalg.norm(sample, axis=1, keepdims=True)
    found = []
    for at_once in (1, 7, 1024):
        monkeypatch.setattr(module, "_LISTS_SUMMED", at_once)
        found.append(module.train_coarse(sample, 50, 3).centroids.copy())
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_allclose(np.linalg.norm(found[0], axis=1), 1, atol=1e-5)
