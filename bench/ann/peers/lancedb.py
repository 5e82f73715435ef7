"""LanceDB, embedded: an IVF index with RaBitQ or PQ codes, and a refine step that reads the exact vectors from disk.

Its own guide: partitions about the root of the rows, by default; probes and refine factor raised for recall; the index
prewarmed. Vectors are stored in half precision, as ours are. Queries of a batch go in parallel threads, since its
client has no call for many.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.ann.peers.protocol import Params, padded, threads

_TABLE, _VECTOR, _ID = "passages", "vector", "id"
_BLOCK = 65_536


class LanceDb:
    packages = ("lancedb", "pyarrow")

    def __init__(self, kind: Literal["IVF_RQ", "IVF_PQ"]) -> None:
        self._kind = kind

    def build_params(self, rows: int, dimension: int) -> Params:
        params = {"kind": self._kind, "num_partitions": max(1, math.isqrt(rows))}
        return params if self._kind == "IVF_RQ" else {**params, "num_sub_vectors": max(1, dimension // 4)}

    def sweep(self, rows: int) -> list[Params]:
        grid = [(16, 10), (32, 10), (64, 10), (128, 20), (256, 20), (512, 20), (900, 30)]
        return [{"nprobes": nprobes, "refine_factor": refine} for nprobes, refine in grid]

    def build(self, vectors: Path, folder: Path, params: Params) -> None:
        import lancedb
        import pyarrow
        from lancedb.index import IvfPq, IvfRq

        base = np.load(vectors, mmap_mode="r")
        rows, dimension = base.shape
        schema = pyarrow.schema([(_ID, pyarrow.int64()), (_VECTOR, pyarrow.list_(pyarrow.float16(), dimension))])

        def batches() -> object:
            for start in range(0, rows, _BLOCK):
                block = np.ascontiguousarray(base[start : start + _BLOCK])
                values = pyarrow.array(block.reshape(-1), pyarrow.float16())
                ids = pyarrow.array(np.arange(start, start + len(block)))
                column = pyarrow.FixedSizeListArray.from_arrays(values, dimension)
                yield pyarrow.record_batch([ids, column], schema=schema)

        table = lancedb.connect(folder).create_table(
            _TABLE, pyarrow.RecordBatchReader.from_batches(schema, batches()), schema=schema
        )
        partitions = params["num_partitions"]
        if params["kind"] == "IVF_RQ":
            config = IvfRq(distance_type="dot", num_partitions=partitions)
        else:
            sub_vectors = params["num_sub_vectors"]
            config = IvfPq(distance_type="dot", num_partitions=partitions, num_sub_vectors=sub_vectors)
        table.create_index(_VECTOR, config=config)

    def open(self, folder: Path) -> None:
        import lancedb

        self._table = lancedb.connect(folder).open_table(_TABLE)
        self._table.prewarm_index(f"{_VECTOR}_idx")
        self._pool = ThreadPoolExecutor(threads())

    def search_one(self, query: NDArray[np.float32], k: int, params: Params) -> NDArray[np.int64]:
        search = self._table.search(query, vector_column_name=_VECTOR).distance_type("dot").limit(k)
        search = search.nprobes(params["nprobes"]).refine_factor(params["refine_factor"])
        found = search.select([_ID, "_distance"]).to_arrow()
        return padded(found[_ID].to_numpy(), k)

    def search_batch(self, queries: NDArray[np.float32], k: int, params: Params) -> NDArray[np.int64]:
        return np.stack(list(self._pool.map(lambda query: self.search_one(query, k, params), queries)))
