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
from datastore.ann.index import candidates, load_template, train_template
from datastore.ann.spec import IndexKind, IndexSpec, choose_index
from datastore.config import IndexConfig
from datastore.store.exact import ExactVectors
from datastore.store.vectors import VectorFile, VectorWriter

_SPEC, _VECTORS = "spec.json", "vectors.f16"
_BLOCK = 16_384
_TOGETHER, _CANDIDATES_TOGETHER = 1024, 1 << 16
"""Queries of a batch that one thread searches for at once, and their candidates, which take memory."""


class Pergamon:
    packages = ("pergamon", "faiss-cpu", "numpy")

    def __init__(self, kind: IndexKind = "ivf-pq4") -> None:
        self._kind = kind

    def build_params(self, rows: int, dimension: int) -> Params:
        params = {"kind": self._kind, "copies": 2, "segments": 1}
        return params | {"bits": 1} if self._kind == "ivf-rabitq" else params

    def sweep(self, rows: int) -> list[Params]:
        grid = [(8, 20), (16, 30), (24, 30), (32, 35), (40, 35), (50, 35), (70, 40), (100, 60), (150, 70), (200, 80)]
        grid += [(250, 100), (320, 120), (450, 150), (600, 200), (600, 600)]
        return [{"nprobe": nprobe, "depth": depth} for nprobe, depth in grid]

    def build(self, vectors: Path, folder: Path, params: Params) -> None:
        base = np.load(vectors, mmap_mode="r")
        rows, dimension = base.shape
        config = IndexConfig(kind=params["kind"], copies=params["copies"], bits=params.get("bits", 1))
        spec = choose_index(config, rows, dimension)
        sample = np.sort(np.random.default_rng(spec.seed).choice(rows, spec.train_vectors, replace=False))
        template = train_template(spec, base[sample].astype(np.float32))
        template.save(folder / spec.template_name)
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
            template.write_segment(blocks, segment / spec.codes_name)

    def open(self, folder: Path) -> None:
        spec = IndexSpec(**json.loads((folder / _SPEC).read_text(encoding="utf-8")))
        template = folder / spec.template_name
        paths = sorted(folder.glob("*/" + _VECTORS))
        files = [VectorFile(path, path.stat().st_size // (2 * spec.dimension), spec.dimension) for path in paths]
        opened = load_template(spec, template if template.exists() else None)
        self._index = opened.open([path.with_name(spec.codes_name) for path in paths], files)
        self._vectors = ExactVectors(files, spec.dimension)
        self._pool = ThreadPoolExecutor(threads())

    def search_one(self, query: NDArray[np.float32], k: int, params: Params) -> NDArray[np.int64]:
        found: NDArray[np.int64] = self._search(query[None], k, params)[0]
        return found

    def search_batch(self, queries: NDArray[np.float32], k: int, params: Params) -> NDArray[np.int64]:
        together = max(1, min(_TOGETHER, _CANDIDATES_TOGETHER // max(k, params["depth"])))
        parts = [queries[start : start + together] for start in range(0, len(queries), together)]
        found: NDArray[np.int64] = np.concatenate(
            list(self._pool.map(lambda part: self._search(part, k, params), parts))
        )
        return found

    def _search(self, queries: NDArray[np.float32], k: int, params: Params) -> NDArray[np.int64]:
        rows = candidates(self._index, queries, max(k, params["depth"]), params["nprobe"])
        found = np.full((len(queries), k), -1, np.int64)
        for ids, mine, scores in zip(found, rows, self._vectors.scores(queries, rows), strict=True):
            best = np.argsort(-scores, kind="stable")[:k]
            ids[: len(best)] = mine[best]
        return found
