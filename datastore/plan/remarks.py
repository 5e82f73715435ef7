"""What dominates a plan, what does not fit, what is beyond what was measured: what to know before buying."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from datastore.ann.spec import FLAT_MAX_PASSAGES
from datastore.plan.calibration import Calibration
from datastore.plan.request import PlanRequest, Size
from datastore.plan.results import ShapePlan
from datastore.plan.search import UNMEASURED
from datastore.quantities import human_bytes

_FAR = 3.0
"""Times the largest size measured, from where figures are called extrapolated."""
_LONG_HOURS = 24 * 30


def of_shape(planned: ShapePlan) -> ShapePlan:
    """With what dominates it, and the warnings of this shape alone."""
    machine, found = planned.machine, []
    if planned.segments.limit is not None:
        found.append(
            f"build with --segment-passages {planned.segments.limit}: {planned.segments.total:,} segments; the build's "
            "own limit makes many small ones, each with lists, tables and readers of its own"
        )
    if planned.build_peak_bytes > machine.ram_bytes:
        found.append(
            f"building takes {human_bytes(planned.build_peak_bytes)} at its highest, for the training sample of "
            f"{planned.index.train_vectors:,} vectors; the machine has {human_bytes(machine.ram_bytes)}: train on a "
            "larger one, or with fewer lists (index.nlist)"
        )
    if planned.search.vectors_cached_share < 1 and planned.search.cold_ms > 2 * planned.search.warm_ms:
        found.append(
            f"{planned.search.vectors_cached_share:.0%} of the vectors fit the memory that is left: expect a latency "
            "nearer to cold"
        )
    if planned.build_elapsed_hours > _LONG_HOURS:
        share = planned.build_hours.encoding / planned.build_hours.total
        found.append(
            f"the build takes {planned.build_elapsed_hours / 24:,.0f} days on {planned.build_machines} machines, "
            f"{share:.0%} of it encoding: use GPUs, more machines (--build-machines) or a smaller encoder"
        )
    if planned.index.kind == "flat" and planned.search.codes_read > FLAT_MAX_PASSAGES:
        found.append(
            f"flat scans all {planned.search.codes_read:,} passages of a shard for every query; --index auto would not"
        )
    if machine.gpus and planned.search.on == "cpu" and planned.index.kind != "flat":
        found.append(
            f"searched on the CPU: FAISS's GPU kernels do not take {planned.index_description}; the GPUs encode"
        )
    if planned.search.on == "gpu":
        found.append("nothing of a search on GPUs was measured here: its times come from data sheets")
    return replace(planned, dominant=_dominant(planned), warnings=tuple(found))


def of_all(request: PlanRequest, size: Size, shapes: Sequence[ShapePlan], calibrated: Calibration) -> tuple[str, ...]:
    """Warnings that hold for every shape."""
    found = []
    kinds = {planned.index.kind for planned in shapes if planned.search.on == "cpu"} & set(calibrated.kinds)
    largest = min((calibrated.kinds[kind].measured[-1].passages for kind in kinds), default=size.passages)
    if size.passages > _FAR * largest:
        found.append(
            f"{size.passages / largest:,.0f} times the largest size measured ({largest:,} vectors): bytes are "
            "arithmetic and hold, times are extrapolated and may be off by a factor"
        )
    kinds = {planned.index.kind for planned in shapes if planned.search.on == "cpu"} - {"flat", *calibrated.kinds}
    found += [f"no search of {kind} was measured: its times are those of {UNMEASURED}" for kind in sorted(kinds)]
    if request.passages is None and request.tokens_per_passage is None:
        found.append(
            f"passages are counted as full, {size.tokens_a_passage:,.0f} tokens each; documents end, and short ones "
            "make more passages: give --tokens-per-passage, or --like STORE of a sample, if you know better"
        )
    return tuple(found)


def _dominant(planned: ShapePlan) -> dict[str, str]:
    """Need -> its largest part, and the share of that."""
    build, search = planned.build_hours, planned.search
    needs: dict[str, Mapping[str, float]] = {
        "index memory": planned.index_memory,
        "disk": planned.disk,
        "build": {
            "encoding": build.encoding,
            "text": build.text,
            "training": build.training,
            "codes": build.codes,
        },
        "search": {
            "coarse level": search.coarse_ms,
            "scan of codes": search.scan_ms,
            "rerank": search.rerank_ms,
            "reads from disk": (search.cold_ms - search.warm_ms) * (1 - search.vectors_cached_share),
        },
    }
    return {need: _largest(parts) for need, parts in needs.items()}


def _largest(parts: Mapping[str, float]) -> str:
    name = max(parts, key=lambda part: parts[part])
    return f"{name} {parts[name] / (sum(parts.values()) or 1):.0%}"
