"""Engines by the name that `--engines` takes."""

from __future__ import annotations

from collections.abc import Callable

from bench.ann.peers.compactds import CompactDs
from bench.ann.peers.lancedb import LanceDb
from bench.ann.peers.protocol import Engine
from bench.ann.peers.qdrant import QdrantEdge
from bench.ann.peers.scann import Scann
from bench.ann.peers.zvec import ZvecDiskAnn


def _pergamon() -> Engine:
    from bench.ann.peers.pergamon import Pergamon  # the one that needs this project's own environment

    return Pergamon()


ENGINES: dict[str, Callable[[], Engine]] = {
    "pergamon": _pergamon,
    "compactds": CompactDs,
    "scann": Scann,
    "lancedb-rq": lambda: LanceDb("IVF_RQ"),
    "lancedb-pq": lambda: LanceDb("IVF_PQ"),
    "qdrant-edge": QdrantEdge,
    "zvec-diskann": ZvecDiskAnn,
}
