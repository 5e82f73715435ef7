"""zvec's DiskANN: a Vamana graph and half-precision vectors on disk, PQ codes in memory. Its own defaults.

Subramanya et al., DiskANN: Fast Accurate Billion-point Nearest Neighbor Search on a Single Node, 2019.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.ann.peers.protocol import Params, padded, threads

_FIELD = "vector"
_COLLECTION = "passages"
_BLOCK = 1000


class ZvecDiskAnn:
    packages = ("zvec",)

    def build_params(self, rows: int, dimension: int) -> Params:
        return {"max_degree": 100, "list_size": 50, "pq_chunk_num": 0}

    def sweep(self, rows: int) -> list[Params]:
        return [{"list_size": size} for size in (20, 50, 100, 200, 300, 500, 1000)]

    def build(self, vectors: Path, folder: Path, params: Params) -> None:
        import zvec

        _start(zvec)
        base = np.load(vectors, mmap_mode="r")
        schema = zvec.CollectionSchema(
            name=_COLLECTION,
            vectors=zvec.VectorSchema(
                _FIELD,
                zvec.DataType.VECTOR_FP16,
                base.shape[1],
                index_param=zvec.DiskAnnIndexParam(metric_type=zvec.MetricType.IP, **params),
            ),
        )
        collection = zvec.create_and_open(path=str(folder / _COLLECTION), schema=schema)
        for start in range(0, len(base), _BLOCK):
            block = base[start : start + _BLOCK]
            collection.insert(
                [zvec.Doc(id=str(start + row), vectors={_FIELD: vector}) for row, vector in enumerate(block)]
            )
        collection.optimize(option=zvec.OptimizeOption(concurrency=threads()))
        collection.flush()
        collection.close()

    def open(self, folder: Path) -> None:
        import zvec

        _start(zvec)
        self._zvec = zvec
        self._collection = zvec.open(str(folder / _COLLECTION), zvec.CollectionOption(read_only=True))
        self._pool = ThreadPoolExecutor(threads())

    def search_one(self, query: NDArray[np.float32], k: int, params: Params) -> NDArray[np.int64]:
        wanted = self._zvec.Query(
            _FIELD,
            vector=query.astype(np.float16),
            param=self._zvec.DiskAnnQueryParam(list_size=max(k, params["list_size"])),
        )
        return padded((int(document.id) for document in self._collection.query(wanted, topk=k, output_fields=[])), k)

    def search_batch(self, queries: NDArray[np.float32], k: int, params: Params) -> NDArray[np.int64]:
        return np.stack(list(self._pool.map(lambda query: self.search_one(query, k, params), queries)))


def _start(zvec: object) -> None:
    zvec.init(query_threads=threads(), optimize_threads=threads())  # type: ignore[attr-defined]
