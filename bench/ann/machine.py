"""What a report says of the machine, and what every engine is given on it."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def describe_machine() -> dict[str, Any]:
    cpu = _cpu()
    return {
        "cpu": cpu.get("model name", platform.processor()),
        "simd": _simd(cpu),
        "logical_cpus": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
    }


def blas_kernel() -> str | None:
    """OpenBLAS's kernel family for this CPU: the one in FAISS's wheel misjudges newer CPUs, at a fifth of the speed."""
    return {"avx512": "SkylakeX", "avx2": "Haswell"}.get(_simd(_cpu()))


def _simd(cpu: dict[str, str]) -> str:
    flags = set(cpu.get("flags", "").split())
    if "avx512f" in flags:
        return "avx512"
    return "avx2" if {"avx2", "fma"} <= flags else "other"


def _cpu() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}
