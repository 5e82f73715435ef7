"""Ours, through the house's own search path: template, segments, exact rerank from the vectors file."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.ann.peers.protocol import Params, threads
from datastore.ann.index import load_template, search_segments, train_template
from datastore.ann.spec import IndexSpec, choose_index
from datastore.config import IndexConfig
from datastore.store.vectors import VectorFile, VectorWriter, inner_products

_SPEC, _TEMPLATE, _CODES, _VECTORS = "spec.json", "template.faiss", "ann.faiss", "vectors.f16"
_BLOCK = 16_384


class Pergamon:
    packages = ("pergamon", "faiss-cpu", "numpy")

    def build_params(self, rows: int, dimension: int) -> Params:
        return {"kind": "ivf-pq", "segments": 1}

    def sweep(self, rows: int) -> list[Params]:
        grid = [(16, 100), (32, 100), (64, 100), (64, 400), (128, 400), (256, 1000), (512, 1000), (1024, 1000)]
        return [{"nprobe": nprobe, "depth": depth} for nprobe, depth in grid]

    def build(self, vectors: Path, folder: Path, params: Params) -> None:
        base = np.load(vectors, mmap_mode="r")
        rows, dimension = base.shape
        spec = choose_index(IndexConfig(kind=params["kind"]), rows, dimension)
        sample = np.sort(np.random.default_rng(spec.seed).choice(rows, spec.train_vectors, replace=False))
        template = train_template(spec, base[sample].astype(np.float32))
        template.save(folder / _TEMPLATE)
        (folder / _SPEC).write_text(json.dumps(asdict(spec)), encoding="utf-8")
        bounds = np.linspace(0, rows, params["segments"] + 1).astype(int)
        for number, (start, end) in enumerate(pairwise(bounds)):
            segment = folder / f"{number:06}"
            segment.mkdir()
            blocks = [base[at : min(at + _BLOCK, end)] for at in range(start, end, _BLOCK)]
            writer = VectorWriter(segment / _VECTORS, dimension)
            for block in blocks:
                writer.add(block.astype(np.float32))
            writer.close()
            template.write_segment(blocks, segment / _CODES)

    def open(self, folder: Path) -> None:
        spec = IndexSpec(**json.loads((folder / _SPEC).read_text(encoding="utf-8")))
        template = folder / _TEMPLATE
        self._template = load_template(spec, template if template.exists() else None)
        self._vectors = []
        for path in sorted(folder.glob("*/" + _VECTORS)):
            rows = path.stat().st_size // (2 * spec.dimension)
            self._vectors.append(VectorFile(path, rows, spec.dimension))
        self._segments = [
            self._template.open_segment(path.with_name(_CODES), vectors)
            for path, vectors in zip(sorted(folder.glob("*/" + _VECTORS)), self._vectors, strict=True)
        ]
        self._starts = np.cumsum([0, *(vectors.rows for vectors in self._vectors)])
        self._pool = ThreadPoolExecutor(threads())

    def search_one(self, query: NDArray[np.float32], k: int, params: Params) -> NDArray[np.int64]:
        found = search_segments(self._template, self._segments, query, max(k, params["depth"]), params["nprobe"])
        scores = np.empty(len(found.rows), np.float32)
        for position, vectors in enumerate(self._vectors):
            mine = found.segments == position
            scores[mine] = inner_products(vectors.read(found.rows[mine]), query)
        best = np.argsort(-scores, kind="stable")[:k]
        ids = self._starts[found.segments[best]] + found.rows[best]
        return np.pad(ids, (0, k - len(ids)), constant_values=-1)

    def search_batch(self, queries: NDArray[np.float32], k: int, params: Params) -> NDArray[np.int64]:
        return np.stack(list(self._pool.map(lambda query: self.search_one(query, k, params), queries)))
