"""The plan on machines of one shape."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

from datastore.ann.gpu_plan import GpuPlan, search_plan
from datastore.ann.spec import IndexSpec, choose_index
from datastore.config import IndexConfig, SegmentConfig, segment_limit
from datastore.errors import InvalidArgument
from datastore.plan.building import build_hours, query_encoding_ms
from datastore.plan.calibration import Calibration
from datastore.plan.constants import Constants
from datastore.plan.layout import Parts, disk_parts, gpu_pq_m, memory_parts
from datastore.plan.machines import Machine
from datastore.plan.request import PlanRequest, Size
from datastore.plan.results import Cost, SearchFigures, Segments, ShapePlan
from datastore.plan.search import Settings, cold_ms, cpu_times, gpu_times, kind_cost, reads_a_row, settings_for

MAX_SHARD_PASSAGES = (1 << 31) - 129
"""Of one process: what Lucene's readers number together."""
SEGMENTS_A_SHARD = 128
"""Beyond so many, the planner has segments made larger: each has tables and readers of its own."""
SEGMENTS_SEARCHED_APART = 16
"""The same of ivf-pq, which begins every list anew in each segment."""
MAX_SHARDS = 100_000
_TOGETHER = 64
"""Queries that a server's thread searches for at once, at most (retriever/batching.py)."""
_HOURS_A_MONTH = 730
_DISK_FILLED = 0.9
_SEGMENT_ROW_BYTES = 400
"""Of a passage while its segment is written: names and attributes as Python has them."""


class Shape:
    """Arithmetic alone: nothing is opened or measured."""

    def __init__(
        self, request: PlanRequest, size: Size, machine: Machine, constants: Constants, calibrated: Calibration
    ) -> None:
        self._request = request
        self._size = size
        self._machine = machine
        self._constants = constants
        self._calibrated = calibrated

    @cached_property
    def _spec(self) -> IndexSpec:
        """What a build chooses; for GPUs, where it is left open and they cannot search that, 8-bit codes."""
        chosen = choose_index(self._request.index, self._size.passages, self._request.dimension)
        open_to = self._machine.gpus and self._request.index.kind == "auto" and chosen.kind != "flat"
        if not open_to or isinstance(search_plan(chosen, 1), GpuPlan):
            return chosen
        config = replace(self._request.index, kind="ivf-pq", pq_m=gpu_pq_m(self._request.dimension))
        return choose_index(config, self._size.passages, self._request.dimension)

    @cached_property
    def _on_gpu(self) -> bool:
        fits = isinstance(search_plan(self._spec, 1), GpuPlan)
        return bool(self._machine.gpus) and fits and self._spec.kind != "flat"

    def plan(self) -> ShapePlan:
        shards, bound_by = self._shards()
        segments = self._segments(shards)
        search = self._search(shards)
        replicas = max(1, math.ceil((self._request.queries_per_second or 0) / search.queries_per_second_with_encoding))
        makers = self._request.machines or shards
        hours = build_hours(
            self._request,
            self._size,
            self._spec,
            self._machine,
            calibrated=self._calibrated,
            constants=self._constants,
        )
        disk = self._disk(segments)
        memory = memory_parts(self._spec, self._a_shard(shards), segments.a_shard)
        price = self._machine.price
        return ShapePlan(
            machine=self._machine,
            index=self._spec,
            index_description=self._spec.describe(),
            shards=shards,
            shards_bound_by=bound_by,
            replicas=replicas,
            segments=segments,
            index_memory=memory,
            index_memory_bytes=sum(memory.values()),
            index_memory_bytes_all_shards=shards * sum(memory.values()),
            serving_bytes=self._serving(shards),
            build_peak_bytes=self._build_peak(segments),
            gpu_bytes=self._gpu_bytes(shards),
            disk=disk,
            disk_bytes=sum(disk.values()),
            search=search,
            build_hours=hours,
            build_machines=makers,
            build_elapsed_hours=hours.elapsed(makers),
            cost=Cost(hours.total * price, shards * replicas * price * _HOURS_A_MONTH),
        )

    def _a_shard(self, shards: int) -> int:
        return math.ceil(self._size.passages / shards)

    def _shards(self) -> tuple[int, str]:
        """(the fewest shards that fit, what asks for so many)."""
        machine, spare = self._machine, self._constants["spare_memory"]
        limits: dict[str, Callable[[int], bool]] = {
            "memory": lambda shards: self._serving(shards) <= (1 - spare) * machine.ram_bytes,
            "disk": lambda shards: self._disk_bytes(shards) <= _DISK_FILLED * shards * machine.disk_bytes,
            "passages a process": lambda shards: self._a_shard(shards) <= MAX_SHARD_PASSAGES,
            "GPU memory": lambda shards: self._gpu_bytes(shards) <= machine.gpu_bytes,
        }
        needed = {}
        for name, fits in limits.items():
            low, high = 0, min(MAX_SHARDS, self._size.passages)  # low does not fit, high does
            if not fits(high):
                raise InvalidArgument(
                    f"no number of {machine.shape} machines up to {high:,} holds this: each has too little {name} for "
                    f"what every shard has ({self._spec.describe()})",
                    mend=f"give machines with more {name}, or an index with fewer lists",
                    field="ram",
                )
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if fits(middle) else (middle, high)
            needed[name] = high
        most = max(needed.values())
        return most, "one is enough" if most == 1 else next(name for name, count in needed.items() if count == most)

    def _segments(self, shards: int) -> Segments:
        passages, limit = self._size.passages, self._request.segment_passages
        most = shards * (SEGMENTS_SEARCHED_APART if self._spec.kind == "ivf-pq" else SEGMENTS_A_SHARD)
        if limit is None and (own := segments_of_a_build(passages)) <= most:
            return Segments(None, own, math.ceil(own / shards))
        limit = limit or 1 << math.ceil(math.log2(passages / most))
        total = math.ceil(passages / limit)
        return Segments(limit, total, math.ceil(total / shards))

    def _settings(self, shards: int) -> Settings:
        passages = self._size.passages
        usual = choose_index(IndexConfig(kind=self._spec.kind), passages, self._spec.dimension).nlist
        recall = self._request.recall
        return settings_for(
            self._calibrated, self._spec, recall, usual_nlist=max(usual, 1), passages=passages, shards=shards
        )

    def _serving(self, shards: int) -> float:
        passages, segments = self._a_shard(shards), self._segments(shards).a_shard
        constants = self._constants
        own = constants["process_bytes"] + segments * constants["segment_process_bytes"]
        own += passages * constants["passage_process_bytes"]
        if self._on_gpu:
            return own
        index = sum(memory_parts(self._spec, passages, segments).values())
        if self._spec.kind == "flat":
            return own + index
        settings = self._settings(shards)
        workspace = kind_cost(self._calibrated, self._spec).workspace
        return own + index + workspace.at(self._machine.vcpus * _TOGETHER, settings.nprobe, settings.depth)

    def _gpu_bytes(self, shards: int) -> float:
        if not self._on_gpu:
            return 0.0
        held = search_plan(self._spec, self._a_shard(shards), self._machine.gpus)
        assert isinstance(held, GpuPlan)
        return held.device_bytes + self._constants["gpu_context_bytes"]

    def _build_peak(self, segments: Segments) -> float:
        sample = 4 * self._spec.dimension * self._spec.train_vectors * self._constants["training_factor"]
        limit = segments.limit or segment_limit(SegmentConfig(), self._size.passages)
        rows = min(limit, self._size.passages)
        writing = rows * (_SEGMENT_ROW_BYTES + self._spec.copies * (2 * self._spec.code_bytes + 40))
        return self._constants["process_bytes"] + max(sample, writing)

    def _disk(self, segments: Segments) -> Parts:
        passages, words, constants = self._size.passages, self._size.words, self._constants
        text = constants["passage_word_bytes"] * words + constants["passage_bytes"] * passages
        lucene = constants["bm25_word_bytes"] * words + constants["bm25_passage_bytes"] * passages
        index = disk_parts(self._spec, passages, segments.total)
        return {**index, "passages": text, "bm25": lucene, "columns": constants["column_bytes"] * passages}

    def _disk_bytes(self, shards: int) -> float:
        return sum(self._disk(self._segments(shards)).values())

    def _search(self, shards: int) -> SearchFigures:
        spec, machine, constants = self._spec, self._machine, self._constants
        settings = self._settings(shards)
        apart = self._segments(shards).a_shard if spec.kind == "ivf-pq" else 1
        times = cpu_times(self._calibrated, spec, settings, apart, constants)
        rates = {"cores": 1e3 * machine.cores / times.batch_ms}
        scanned = settings.codes * (spec.code_bytes or 2 * spec.dimension)
        if self._on_gpu:
            times = gpu_times(self._calibrated, spec, settings, machine.gpus, constants)
            rates = {"gpu": 1e3 / times.batch_ms, "cores": 1e3 * machine.cores / max(times.rerank_ms, 1e-6)}
        else:
            rates["memory bandwidth"] = constants["memory_bandwidth"] / scanned
        left = max(0.0, machine.ram_bytes - self._serving(shards))
        vectors = 2 * spec.dimension * self._a_shard(shards)
        cached = 1.0 if spec.kind == "flat" else min(1.0, left / vectors)
        reads = settings.depth * reads_a_row(spec.dimension) * (1 - cached)
        if reads > 0:
            rates["disk reads"] = constants["disk_reads"] / reads
        bound_by = min(rates, key=lambda name: rates[name])
        encoding = query_encoding_ms(self._request, constants)
        return SearchFigures(
            on="gpu" if self._on_gpu else "cpu",
            nprobe=settings.nprobe,
            candidate_depth=settings.depth,
            codes_read=round(settings.codes),
            code_bytes_read=round(scanned),
            coarse_ms=times.coarse_ms,
            scan_ms=times.scan_ms,
            rerank_ms=times.rerank_ms,
            warm_ms=times.warm_ms,
            cold_ms=times.warm_ms + cold_ms(settings, constants),
            vectors_cached_share=cached,
            queries_per_second=rates[bound_by],
            bound_by=bound_by,
            encoding_ms=encoding,
            wire_ms=constants["wire_ms"],
            queries_per_second_with_encoding=1 / (1 / rates[bound_by] + encoding / 1e3 / machine.cores),
        )


def segments_of_a_build(passages: int) -> int:
    """How many segments a build with its own limits makes."""
    done = count = 0
    config = SegmentConfig()
    while done < passages:
        limit = segment_limit(config, done)
        if limit == segment_limit(config, passages):  # as it stays from here on
            return count + math.ceil((passages - done) / limit)
        done, count = done + limit, count + 1
    return count
