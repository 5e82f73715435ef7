"""ScaNN with SOAR, as its guide to configuration advises: about sqrt(n) leaves, asymmetric hashing with 2 dimensions a
block, then reordering with the full vectors. Everything is in memory.

Guo et al., Accelerating Large-Scale Inference with Anisotropic Vector Quantization, 2020; Sun et al., SOAR, 2023.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.ann.peers.protocol import Params, load_float32, padded, threads

_K = 10
_LEAVES_SEARCHED = 100


class Scann:
    packages = ("scann",)

    def build_params(self, rows: int, dimension: int) -> Params:
        return {
            "num_leaves": max(1, 2 * round(math.sqrt(rows))),
            "training_sample_size": min(rows, 250_000),
            "soar_lambda": 1.5,
            "dimensions_per_block": 2,
            "anisotropic_quantization_threshold": 0.2,
            "reorder": 100,
        }

    def sweep(self, rows: int) -> list[Params]:
        grid = [(15, 100), (25, 100), (50, 100), (75, 100), (100, 150), (200, 200), (300, 200), (400, 300), (600, 400)]
        return [{"leaves_to_search": leaves, "reorder": reorder} for leaves, reorder in grid]

    def build(self, vectors: Path, folder: Path, params: Params) -> None:
        from scann import scann_ops_pybind

        builder = scann_ops_pybind.builder(load_float32(vectors), _K, "dot_product")
        builder.set_n_training_threads(threads())
        builder.tree(
            num_leaves=params["num_leaves"],
            num_leaves_to_search=min(_LEAVES_SEARCHED, params["num_leaves"]),
            training_sample_size=params["training_sample_size"],
            soar_lambda=params["soar_lambda"],
        )
        builder.score_ah(
            params["dimensions_per_block"],
            anisotropic_quantization_threshold=params["anisotropic_quantization_threshold"],
        )
        builder.reorder(params["reorder"])
        builder.build().serialize(str(folder))

    def open(self, folder: Path) -> None:
        from scann import scann_ops_pybind

        self._searcher = scann_ops_pybind.load_searcher(str(folder))
        self._searcher.set_num_threads(threads())

    def search_one(self, query: NDArray[np.float32], k: int, params: Params) -> NDArray[np.int64]:
        ids, _ = self._searcher.search(query, k, max(k, params["reorder"]), params["leaves_to_search"])
        return padded(ids, k)

    def search_batch(self, queries: NDArray[np.float32], k: int, params: Params) -> NDArray[np.int64]:
        ids, _ = self._searcher.search_batched_parallel(
            queries, k, max(k, params["reorder"]), params["leaves_to_search"], batch_size=-(-len(queries) // threads())
        )
        return np.stack([padded(row, k) for row in ids])
