"""How many lists, and codes in them, hold the nearest neighbours: what routing allows before any code is compared.

`python -m bench.ann.ablation --dataset DIR [--nlist 4096 --nlist 8192]` prints a table for passages in one list, and in
two for several weights of the spill (see `datastore.ann.clustering.assign`), for the default one also with probes
spread over queries (see `datastore.ann.kinds.probing`).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from bench.ann.dataset import open_dataset
from datastore.ann.clustering import assign, train_coarse
from datastore.ann.kinds.probing import Probing
from datastore.ann.spec import MIN_TRAIN_PER_LIST, SPILL_WEIGHT

TARGETS = (0.9, 0.95, 0.98, 0.99, 0.995)
VARIANTS = ((1, 0.0), (2, 0.0), (2, 0.5), (2, 1.5), (2, 3.0))
"""(copies, spill weight)."""
_BLOCK = 65_536
_NEIGHBOURS = 10


def lists_needed(
    ranks: NDArray[np.int64], sizes: NDArray[np.int64], order: NDArray[np.int64], target: float
) -> tuple[int, float]:
    """(lists, mean codes in them) that hold the share `target` of all neighbours.

    Args:
        ranks: int64 [queries, neighbours]: at which of the query's lists, from 0, a neighbour is first met.
        sizes: int64 [nlist], codes in each list.
        order: int64 [queries, nlist], lists by their nearness to each query.
    """
    lists = int(np.sort(ranks, axis=None)[int(np.ceil(target * ranks.size)) - 1]) + 1
    return lists, float(sizes[order[:, :lists]].sum(axis=1).mean())


def spread_needed(
    ranks: NDArray[np.int64],
    sizes: NDArray[np.int64],
    products: NDArray[np.float32],
    order: NDArray[np.int64],
    *,
    probing: Probing,
    target: float,
) -> tuple[int, float]:
    """As `lists_needed`, of the mean number of lists, with probes spread over queries.

    Args:
        products: float32 [queries, nlist], of the centroids of `order` with each query.
    """

    def probed(nprobe: int) -> NDArray[np.int64]:
        looked_at = probing.looked_at(nprobe)
        lists = probing.chosen(products[:, :looked_at], order[:, :looked_at], nprobe)[1]
        counts: NDArray[np.int64] = (lists >= 0).sum(axis=1)
        return counts

    least, most = 1, len(sizes)
    while least < most:
        middle = (least + most) // 2
        if (ranks < probed(middle)[:, None]).mean() >= target:
            most = middle
        else:
            least = middle + 1
    counts = probed(least)
    codes = np.cumsum(sizes[order], axis=1)[np.arange(len(order)), counts - 1]
    return round(counts.mean()), float(codes.mean())


def main(
    dataset: Annotated[Path, typer.Option(help="A dataset of `pergamon bench ann`.")],
    nlist: Annotated[list[int], typer.Option(help="Numbers of lists.")] = [8192],  # noqa: B006 - typer only reads it
    queries: int = 1000,
) -> None:
    data = open_dataset(dataset)
    asked, truth = data.queries[:queries], data.truth_ids[:queries, :_NEIGHBOURS]
    typer.echo("| lists | copies, spill weight | " + " | ".join(f"recall {target}" for target in TARGETS) + " | s |")
    typer.echo("| --- " * (len(TARGETS) + 3) + "|")
    for count in nlist:
        chosen = np.random.default_rng(0).choice(len(data.base), min(len(data.base), count * MIN_TRAIN_PER_LIST), False)
        coarse = train_coarse(data.base[np.sort(chosen)].astype(np.float32), count, 0)
        order = np.argsort(-(asked @ coarse.centroids.T), axis=1)
        products = np.take_along_axis(asked @ coarse.centroids.T, order, axis=1)
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.broadcast_to(np.arange(count), order.shape), axis=1)
        for copies, weight in VARIANTS:
            begin = time.perf_counter()
            blocks = range(0, len(data.base), _BLOCK)
            lists = np.concatenate(
                [assign(coarse, data.base[at : at + _BLOCK].astype(np.float32), copies, weight) for at in blocks]
            )
            seconds = time.perf_counter() - begin
            ranks = np.take_along_axis(rank, lists[truth].reshape(len(asked), -1), axis=1)
            first = ranks.reshape(*truth.shape, copies).min(axis=2)
            sizes = np.bincount(lists.reshape(-1), minlength=count)
            cells = [lists_needed(first, sizes, order, target) for target in TARGETS]
            shown = " | ".join(f"{needed:,} lists, {codes:,.0f} codes" for needed, codes in cells)
            typer.echo(f"| {count:,} | {copies}, {weight:g} | {shown} | {seconds:.0f} |")
            if weight == SPILL_WEIGHT:
                probing = Probing(coarse.margins, count)
                spread = [
                    spread_needed(first, sizes, products, order, probing=probing, target=target) for target in TARGETS
                ]
                shown = " | ".join(f"{needed:,} lists, {codes:,.0f} codes" for needed, codes in spread)
                typer.echo(f"| {count:,} | {copies}, {weight:g}, spread over queries | {shown} | |")


if __name__ == "__main__":
    typer.run(main)
