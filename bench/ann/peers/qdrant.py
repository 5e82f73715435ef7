"""Qdrant Edge: HNSW over quantized vectors in memory, rescored with the originals, which stay on disk.

The placement is the one of its guide to low memory use with speed: quantized vectors and graph held, originals cold.
Scalar codes (8 bits) are its advice for vectors of fewer than about 1,000 dimensions; binary codes of 1 or 2 bits and
its TurboQuant are there too. A batch goes in parallel threads.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.ann.peers.protocol import Params, padded, threads

_BLOCK = 10_000


class QdrantEdge:
    packages = ("qdrant-edge-py",)

    def build_params(self, rows: int, dimension: int) -> Params:
        return {"m": 16, "ef_construct": 100, "quantization": "scalar"}

    def sweep(self, rows: int) -> list[Params]:
        grid = [(32, 1.0), (64, 1.0), (128, 2.0), (256, 2.0), (512, 3.0), (1024, 4.0), (2048, 4.0), (4096, 4.0)]
        return [{"hnsw_ef": ef, "oversampling": oversampling} for ef, oversampling in grid]

    def build(self, vectors: Path, folder: Path, params: Params) -> None:
        import qdrant_edge as qdrant

        base = np.load(vectors, mmap_mode="r")
        memory = qdrant.Memory
        config = qdrant.EdgeConfig(
            vectors=qdrant.EdgeVectorParams(
                size=base.shape[1],
                distance=qdrant.Distance.Dot,
                datatype=qdrant.VectorStorageDatatype.Float16,
                memory=memory.Cold,
            ),
            hnsw_config=qdrant.HnswIndexConfig(
                m=params["m"],
                ef_construct=params["ef_construct"],
                full_scan_threshold=10,
                max_indexing_threads=threads(),
                memory=memory.Cached,
            ),
            quantization_config=_quantization(qdrant, params["quantization"]),
            # One segment, indexed whole: sizes are in KiB.
            optimizers=qdrant.EdgeOptimizersConfig(
                default_segment_number=1, max_segment_size=1 << 40, indexing_threshold=1
            ),
            max_search_threads=threads(),
        )
        shard = qdrant.EdgeShard.create(str(folder), config)
        for start in range(0, len(base), _BLOCK):
            block = base[start : start + _BLOCK].astype(np.float32)
            points = [qdrant.Point(start + row, vector.tolist(), {}) for row, vector in enumerate(block)]
            shard.update(qdrant.UpdateOperation.upsert_points(points))
        while shard.optimize():
            pass
        shard.flush()
        shard.close()

    def open(self, folder: Path) -> None:
        import qdrant_edge as qdrant

        self._qdrant = qdrant
        self._shard = qdrant.EdgeShard.load(str(folder))
        self._pool = ThreadPoolExecutor(threads())

    def search_one(self, query: NDArray[np.float32], k: int, params: Params) -> NDArray[np.int64]:
        qdrant = self._qdrant
        found = self._shard.search(
            qdrant.SearchRequest(
                query=qdrant.Query.Nearest(query.tolist()),
                limit=k,
                params=qdrant.SearchParams(
                    hnsw_ef=max(k, params["hnsw_ef"]),
                    quantization=qdrant.QuantizationSearchParams(rescore=True, oversampling=params["oversampling"]),
                ),
                with_vector=False,
                with_payload=False,
            )
        )
        return padded((point.id for point in found), k)

    def search_batch(self, queries: NDArray[np.float32], k: int, params: Params) -> NDArray[np.int64]:
        return np.stack(list(self._pool.map(lambda query: self.search_one(query, k, params), queries)))


def _quantization(qdrant: Any, name: str) -> Any:
    memory = qdrant.Memory.Pinned
    if name == "scalar":
        return qdrant.ScalarQuantizationConfig(type=qdrant.ScalarType.Int8, quantile=0.99, memory=memory)
    if name == "binary":
        return qdrant.BinaryQuantizationConfig(encoding=qdrant.BinaryQuantizationEncoding.OneBit, memory=memory)
    if name == "binary-2":
        return qdrant.BinaryQuantizationConfig(encoding=qdrant.BinaryQuantizationEncoding.TwoBits, memory=memory)
    if name == "turbo-4":
        return qdrant.TurboQuantQuantizationConfig(bits=qdrant.TurboQuantBitSize.Bits4, memory=memory)
    raise ValueError(f"quantization is {name!r}; wanted scalar, binary, binary-2 or turbo-4")
