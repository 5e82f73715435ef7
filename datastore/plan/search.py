"""Time and memory of a dense search in one shard, from the calibration: coarse level, scan of codes, exact rerank."""

from __future__ import annotations

from dataclasses import dataclass

from datastore.ann.spec import IndexSpec
from datastore.plan.calibration import Calibration, KindCost
from datastore.plan.constants import Constants
from datastore.plan.layout import coarse_code_bytes

_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Settings:
    """What a query of the wanted recall asks a shard for."""

    nprobe: int
    """Lists read, of the whole datastore's; each shard has its part of every list."""
    depth: int
    codes: float
    """Read in one shard."""


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of one query alone on one thread, or on GPUs and then one thread; vectors in memory."""

    coarse_ms: float
    scan_ms: float
    rerank_ms: float
    batch_ms: float
    """Of one core, or of the GPUs, for a query among many that wait: what throughput is counted from."""

    @property
    def warm_ms(self) -> float:
        return self.coarse_ms + self.scan_ms + self.rerank_ms


UNMEASURED = "ivf-pq4"
"""The kind whose costs stand in for those of a kind that was not measured: a remark says so."""


def kind_cost(calibrated: Calibration, spec: IndexSpec) -> KindCost:
    """Of an IVF kind."""
    return calibrated.kinds.get(spec.kind) or calibrated.kinds[UNMEASURED]


def settings_for(
    calibrated: Calibration, spec: IndexSpec, recall: float, *, usual_nlist: int, passages: int, shards: int
) -> Settings:
    """For `recall` in a datastore of so many passages; other numbers of lists than the usual are read in proportion."""
    if spec.kind == "flat":
        return Settings(0, 0, passages / shards)
    point = kind_cost(calibrated, spec).operating_point(recall, passages)
    nprobe = max(1, min(spec.nlist, round(point.nprobe * spec.nlist / usual_nlist)))
    return Settings(nprobe, max(1, round(point.depth)), nprobe * spec.copies * passages / spec.nlist / shards)


def cpu_times(calibrated: Calibration, spec: IndexSpec, settings: Settings, parts: int, constants: Constants) -> Times:
    """On the cores that were measured, times `core_speed`; lists lie in so many `parts`, begun one by one."""
    speed = 1e3 * constants["core_speed"]
    if spec.kind == "flat":
        scan = 1e3 * settings.codes * 2 * spec.dimension / (constants["flat_core_bytes"] * constants["core_speed"])
        return Times(0.0, scan, 0.0, scan)
    cost = kind_cost(calibrated, spec)
    scanned = settings.codes * spec.code_bytes
    single, batch = coarse_us(calibrated, spec)
    exact = calibrated.exact.at(2 * spec.dimension * settings.depth)
    begun = (parts - 1) * settings.nprobe * constants["list_begin_us"] if parts > 1 else 0.0
    return Times(
        coarse_ms=single / speed,
        scan_ms=(begun + cost.single.at(settings.nprobe, scanned, 0)) / speed,
        rerank_ms=(cost.single.candidate_us * settings.depth + exact) / speed,
        batch_ms=(batch + begun + exact + cost.batch.at(settings.nprobe, scanned, settings.depth)) / speed,
    )


def coarse_us(calibrated: Calibration, spec: IndexSpec) -> tuple[float, float]:
    """Microseconds to find the nearest lists: (of one query alone, of one core for a query among many)."""
    if coded := coarse_code_bytes(spec):
        return calibrated.coarse_single.at(coded), calibrated.coarse_batch.at(coded)
    compared = 4 * spec.nlist * spec.dimension
    return calibrated.coarse_flat_single.at(compared), calibrated.coarse_flat_batch.at(compared)


def cold_ms(settings: Settings, constants: Constants) -> float:
    """What reading the candidates' rows adds when none is in memory."""
    return constants["cold_fixed_ms"] + constants["cold_row_ms"] * settings.depth if settings.depth else 0.0


def reads_a_row(dimension: int) -> float:
    """Pages of a row of float16, on average: most rows begin within a page."""
    row = 2 * dimension
    return (row + _PAGE - 1) / _PAGE if row % _PAGE else row / _PAGE


def gpu_times(calibrated: Calibration, spec: IndexSpec, settings: Settings, gpus: int, constants: Constants) -> Times:
    """Bound by the memory of the GPUs, each with a part of every list: an estimate from data sheets."""
    bandwidth, fixed = constants["gpu_bandwidth"], constants["gpu_fixed_ms"]
    coarse = 1e3 * 4 * spec.nlist * spec.dimension / bandwidth
    scan = 1e3 * settings.codes * spec.code_bytes / gpus / (bandwidth * constants["gpu_scan_share"])
    rerank = calibrated.exact.at(2 * spec.dimension * settings.depth) / (1e3 * constants["core_speed"])
    together = constants["gpu_batch"]
    return Times(coarse, fixed + scan, rerank, (coarse + fixed) / together + scan)
