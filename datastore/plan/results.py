"""What a plan says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from datastore.ann.spec import IndexSpec
from datastore.plan.building import BuildHours
from datastore.plan.constants import Constant
from datastore.plan.layout import Parts
from datastore.plan.machines import Machine
from datastore.plan.request import PlanRequest, Size


@dataclass(frozen=True, slots=True)
class Segments:
    limit: int | None
    """For `--segment-passages`; None where the build's own choice is left."""
    total: int
    a_shard: int


@dataclass(frozen=True, slots=True)
class SearchFigures:
    """Of a dense search in one shard, all shards at the same time; encoding of the query and wire are apart."""

    on: str
    """`cpu` or `gpu`."""
    nprobe: int
    candidate_depth: int
    codes_read: int
    code_bytes_read: int
    coarse_ms: float
    scan_ms: float
    rerank_ms: float
    warm_ms: float
    """One query alone, one thread, vectors in memory: the three together."""
    cold_ms: float
    """The same, with every candidate's vector read from disk."""
    vectors_cached_share: float
    """Of the vectors, what fits the memory that is left: between warm and cold."""
    queries_per_second: float
    """Of a shard with all its cores at work, queries encoded already."""
    bound_by: str
    """What that is: cores, memory bandwidth, disk reads or gpu."""
    encoding_ms: float
    """Of a query, one core."""
    wire_ms: float
    queries_per_second_with_encoding: float
    """With queries encoded on the same cores."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Dollars."""

    build: float
    serving_month: float


@dataclass(frozen=True, slots=True)
class ShapePlan:
    """On machines of one shape, a shard to each."""

    machine: Machine
    index: IndexSpec
    index_description: str
    shards: int
    shards_bound_by: str
    replicas: int
    """Of each shard, for the queries a second aimed at."""
    segments: Segments
    index_memory: Parts
    """Bytes, of one shard."""
    index_memory_bytes: float
    index_memory_bytes_all_shards: float
    serving_bytes: float
    """Of one shard's process: index, process and searches."""
    build_peak_bytes: float
    gpu_bytes: float
    """On each GPU of a shard's machine; 0 where the CPU searches."""
    disk: Parts
    """Bytes, of all shards together, one replica."""
    disk_bytes: float
    search: SearchFigures
    build_hours: BuildHours
    """Of one machine."""
    build_machines: int
    build_elapsed_hours: float
    cost: Cost
    dominant: Mapping[str, str] = field(default_factory=dict)
    """Need -> its largest part, with the share of that."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    request: PlanRequest
    size: Size
    encoder_parameters: float
    shapes: tuple[ShapePlan, ...]
    warnings: tuple[str, ...]
    """Of every shape."""
    assumptions: tuple[Constant, ...]
    measured_on: str
