"""Shapes of machines that a datastore can be put on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from datastore.plan.constants import Constants


@dataclass(frozen=True, slots=True)
class Machine:
    shape: Literal["cpu", "gpu"]
    vcpus: int
    """Logical processors, two a core."""
    ram_bytes: int
    disk_bytes: int
    price: float
    """Dollars an hour."""
    gpus: int
    gpu_bytes: int
    """Of each."""

    @property
    def cores(self) -> float:
        return self.vcpus / 2


def machines(constants: Constants) -> tuple[Machine, Machine]:
    """The two shapes that a plan compares."""
    cpu = Machine(
        "cpu",
        round(constants["cpu_vcpus"]),
        round(constants["cpu_ram"]),
        round(constants["cpu_disk"]),
        constants["cpu_price"],
        0,
        0,
    )
    gpu = Machine(
        "gpu",
        round(constants["gpu_vcpus"]),
        round(constants["gpu_ram"]),
        round(constants["gpu_disk"]),
        constants["gpu_price"],
        round(constants["gpus"]),
        round(constants["gpu_memory"]),
    )
    return cpu, gpu
