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
    from bench.ann.peers.pergamon import Pergamon  # which needs this project's own environment

    return Pergamon()


def _pergamon_rabitq() -> Engine:
    from bench.ann.peers.pergamon import Pergamon

    return Pergamon("ivf-rabitq")


OWN = ("pergamon", "pergamon-rabitq")
"""Those that run in this project's own environment."""

ENGINES: dict[str, Callable[[], Engine]] = {
    "pergamon": _pergamon,
    "pergamon-rabitq": _pergamon_rabitq,
    "compactds": CompactDs,
    "scann": Scann,
    "lancedb-rq": lambda: LanceDb("IVF_RQ"),
    "lancedb-pq": lambda: LanceDb("IVF_PQ"),
    "qdrant-edge": QdrantEdge,
    "zvec-diskann": ZvecDiskAnn,
}
