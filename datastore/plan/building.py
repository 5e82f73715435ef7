"""Hours of a build on one machine: encoding the passages apart from the rest, since it dominates."""

from __future__ import annotations

import math
from dataclasses import dataclass

from datastore.ann.spec import IndexSpec
from datastore.plan.calibration import Calibration
from datastore.plan.constants import Constants
from datastore.plan.machines import Machine
from datastore.plan.request import PlanRequest, Size, encoder_parameters
from datastore.plan.search import coarse_us

_ROUNDS = 10
"""Of k-means (datastore/ann/clustering.py)."""
_WHOLE_SAMPLE_PASSES = 4
"""Assignments of the whole sample: to the parts, and in the rounds that mend."""
_BASE_DIMENSION = 256
"""That `encode_code_us` was measured at."""


@dataclass(frozen=True, slots=True)
class BuildHours:
    """Hours of one machine with all its cores and GPUs at work; machines share the work."""

    encoding: float
    text: float
    """Chunking, passages, BM25, checksums."""
    training: float
    """Of the template: on one machine, before codes."""
    codes: float
    """Finding the lists of every passage, and its codes."""

    @property
    def indexing(self) -> float:
        return self.text + self.training + self.codes

    @property
    def total(self) -> float:
        return self.encoding + self.indexing

    def elapsed(self, machines: int) -> float:
        """With the work divided over so many machines; training is not divided."""
        return (self.total - self.training) / machines + self.training


def build_hours(
    request: PlanRequest,
    size: Size,
    spec: IndexSpec,
    machine: Machine,
    *,
    calibrated: Calibration,
    constants: Constants,
) -> BuildHours:
    """On one machine; encoding is on its GPUs where it has any."""
    work = machine.cores * constants["core_speed"] * 3600
    tokens = min(size.tokens_a_passage, constants["encoder_max_tokens"]) * size.passages
    operations = 2 * encoder_parameters(request) * tokens
    rate = machine.gpus * constants["gpu_flops"] * 3600 if machine.gpus else work * constants["encode_core_flops"]
    text = size.words / constants["text_core_words"] / work
    if spec.kind == "flat":
        return BuildHours(operations / rate, text, 0.0, 0.0)
    _, coarse = coarse_us(calibrated, spec)
    parts = 2 ** round(math.log2(spec.nlist) / 2) if spec.kind == "ivf-pq4" else 1
    clustering = 2 * spec.train_vectors * spec.nlist / parts * spec.dimension * _ROUNDS
    training = clustering / constants["k_means_core_flops"] + spec.train_vectors * _WHOLE_SAMPLE_PASSES * coarse / 1e6
    if machine.gpus:
        # Lists are found and trained there by comparing all centroids.
        found = 2 * spec.nlist * spec.dimension / (machine.gpus * constants["gpu_assign_flops"])
        codes = found + constants["encode_code_us"] * spec.dimension / _BASE_DIMENSION / 1e6 / machine.cores
        training = _WHOLE_SAMPLE_PASSES * spec.train_vectors * found * _ROUNDS
        return BuildHours(operations / rate, text, training / 3600, size.passages * codes / 3600)
    each_us = coarse + constants["encode_code_us"] * spec.dimension / _BASE_DIMENSION
    return BuildHours(operations / rate, text, training / work, size.passages * each_us / 1e6 / work)


def query_encoding_ms(request: PlanRequest, constants: Constants) -> float:
    """Of one core."""
    operations = 2 * encoder_parameters(request) * constants["query_tokens"]
    seconds = operations / constants["encode_core_flops"]
    return (constants["encode_query_overhead_ms"] + 1e3 * seconds) / constants["core_speed"]
