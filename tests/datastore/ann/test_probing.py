"""Probes spread over queries: as many on average as asked for, more where centroids are about equally near."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from datastore.ann.kinds.probing import Probing, ranks, train_margins

NLIST, DIMENSION = 512, 32


def unit(count: int, seed: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


CENTROIDS = unit(NLIST, 0)
MARGINS = train_margins(CENTROIDS, unit(1000, 1), seed=0)
PROBING = Probing(MARGINS, NLIST)


def looked_at(queries: NDArray[np.float32], nprobe: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    products = queries @ CENTROIDS.T
    lists = np.argsort(-products, axis=1)[:, : PROBING.looked_at(nprobe)]
    return np.take_along_axis(products, lists, axis=1), lists


@pytest.mark.parametrize("nprobe", [1, 4, 16, 40, 100])
def test_on_average_about_as_many_are_probed_as_asked_for(nprobe: int) -> None:
    _, lists = PROBING.chosen(*looked_at(unit(500, 2), nprobe), nprobe)
    assert 0.75 * nprobe <= (lists >= 0).sum(axis=1).mean() <= 1.15 * nprobe
    assert (lists >= 0).sum(axis=1).max() <= max(3, round(1.5 * nprobe))


def test_the_nearest_are_probed_and_their_products_stay_beside_them() -> None:
    products, lists = looked_at(unit(100, 3), 20)
    kept_products, kept = PROBING.chosen(products, lists, 20)
    counts = (kept >= 0).sum(axis=1)
    assert len(set(counts.tolist())) > 5
    for row, count in enumerate(counts):
        assert kept[row, :count].tolist() == lists[row, :count].tolist()
        assert kept_products[row, :count].tolist() == products[row, :count].tolist()
        assert (kept[row, count:] == -1).all()


def test_a_query_between_many_centroids_probes_more_than_one_at_a_centroid() -> None:
    between = CENTROIDS.mean(axis=0, keepdims=True)
    both = np.concatenate([between / np.linalg.norm(between), CENTROIDS[:1]])
    _, lists = PROBING.chosen(*looked_at(both, 20), 20)
    among_many, at_one = (lists >= 0).sum(axis=1)
    assert among_many > at_one


@pytest.mark.parametrize("nprobe", [NLIST, 2 * NLIST])
def test_all_lists_are_probed_where_all_are_asked_for(nprobe: int) -> None:
    _, lists = PROBING.chosen(*looked_at(unit(50, 4), nprobe), nprobe)
    assert (np.sort(lists, axis=1) == np.arange(NLIST)).all()


@pytest.mark.parametrize("nlist", [1, 2, 3, 5])
def test_few_lists(nlist: int) -> None:
    few = Probing(train_margins(CENTROIDS[:nlist], unit(50, 5), seed=0), nlist)
    assert few.margins.shape == ranks(nlist).shape
    products = np.sort(unit(10, 6) @ CENTROIDS[:nlist].T, axis=1)[:, ::-1][:, : few.looked_at(1)]
    _, lists = few.chosen(products, np.broadcast_to(np.arange(products.shape[1]), products.shape), 1)
    assert (lists[:, 0] == 0).all()


def test_training_is_the_same_again() -> None:
    assert train_margins(CENTROIDS, unit(1000, 1), seed=0).tolist() == MARGINS.tolist()
