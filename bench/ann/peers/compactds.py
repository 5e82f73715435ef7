"""CompactDS's way (2025) over plain FAISS: IVF-PQ with 8-bit codes in memory, exact float16 rerank from disk.

Its settings: 64 sub-quantizers, nprobe 256, 1,000 candidates reranked. It has 65,536 lists for 1.9 billion vectors;
here they are four times the root of the size, to the next power of two. Vectors lie in a memory map; a batch is
searched by FAISS's own threads and reranked by as many of Python's.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.ann.peers.protocol import Params, threads

_INDEX, _VECTORS = "index.faiss", "vectors.npy"
_BLOCK = 65_536


class CompactDs:
    packages = ("faiss-cpu", "numpy")

    def build_params(self, rows: int, dimension: int) -> Params:
        nlist = max(1, min(1 << round(math.log2(4 * math.sqrt(rows))), rows // 39))
        return {"nlist": nlist, "pq_m": 64 if dimension % 64 == 0 else math.gcd(dimension, 48), "train_per_list": 64}

    def sweep(self, rows: int) -> list[Params]:
        grid = [(16, 100), (32, 100), (64, 100), (128, 400), (256, 1000), (512, 1000), (1024, 1000), (2048, 1000)]
        return [{"nprobe": nprobe, "depth": depth} for nprobe, depth in grid]

    def build(self, vectors: Path, folder: Path, params: Params) -> None:
        import faiss

        base = np.load(vectors, mmap_mode="r")
        rows, dimension = base.shape
        quantizer = faiss.IndexFlatIP(dimension)
        index = faiss.IndexIVFPQ(quantizer, dimension, params["nlist"], params["pq_m"], 8, faiss.METRIC_INNER_PRODUCT)
        wanted = min(rows, max(params["nlist"] * params["train_per_list"], 65_536))
        sample = np.sort(np.random.default_rng(0).choice(rows, wanted, replace=False))
        index.train(base[sample].astype(np.float32))
        for start in range(0, rows, _BLOCK):
            index.add(base[start : start + _BLOCK].astype(np.float32))
        faiss.write_index(index, str(folder / _INDEX))
        np.save(folder / _VECTORS, base)

    def open(self, folder: Path) -> None:
        import faiss

        self._faiss = faiss
        self._index = faiss.read_index(str(folder / _INDEX))
        self._vectors = np.load(folder / _VECTORS, mmap_mode="r")
        self._pool = ThreadPoolExecutor(threads())

    def search_one(self, query: NDArray[np.float32], k: int, params: Params) -> NDArray[np.int64]:
        _, candidates = self._search(query[None], max(k, params["depth"]), params["nprobe"])
        return self._rerank(query, candidates[0], k)

    def search_batch(self, queries: NDArray[np.float32], k: int, params: Params) -> NDArray[np.int64]:
        _, candidates = self._search(queries, max(k, params["depth"]), params["nprobe"])
        return np.stack(list(self._pool.map(self._rerank, queries, candidates, [k] * len(queries))))

    def _search(
        self, queries: NDArray[np.float32], depth: int, nprobe: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        scores, ids = self._index.search(queries, depth, params=self._faiss.SearchParametersIVF(nprobe=nprobe))
        return scores, ids

    def _rerank(self, query: NDArray[np.float32], candidates: NDArray[np.int64], k: int) -> NDArray[np.int64]:
        found = candidates[candidates >= 0]
        scores = self._vectors[found].astype(np.float32) @ query
        best = np.argpartition(-scores, min(k, len(found)) - 1)[:k] if len(found) else found
        ranked = found[best[np.argsort(-scores[best])]]
        return np.pad(ranked, (0, k - len(ranked)), constant_values=-1)
