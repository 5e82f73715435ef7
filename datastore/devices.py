"""Where something is computed: on the CPU, or on CUDA devices by their numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from datastore.errors import FailedPrecondition, InvalidArgument

_FORM = re.compile(r"(auto|cpu|cuda)(?::([0-9]{1,4}(?:,[0-9]{1,4})*))?")


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """What was asked for. Each library that can compute on a GPU resolves it by what it finds, with `among`."""

    kind: Literal["auto", "cpu", "cuda"]
    numbers: tuple[int, ...] = ()
    """Of CUDA devices; empty for all that there are."""

    def __str__(self) -> str:
        return self.kind + (":" + ",".join(map(str, self.numbers)) if self.numbers else "")

    def among(self, present: int, *, library: str, why_none: str, mend: str) -> tuple[int, ...]:
        """Which of the devices 0 to `present` - 1 are chosen; none of them for the CPU.

        Args:
            library: what found them, for people.
            why_none: what is missing where `present` is 0.
            mend: what helps against that.

        Raises:
            FailedPrecondition: one that was asked for is not there.
        """
        if self.kind == "cpu":
            return ()
        if self.kind == "cuda" and present == 0:
            raise FailedPrecondition(
                f"the device is {self}, which {library} cannot use: {why_none}", mend=mend, field="device"
            )
        absent = [number for number in self.numbers if number >= present]
        if absent:
            raise FailedPrecondition(
                f"the device is {self}; {library} finds {present}, numbered 0 to {present - 1}",
                mend="name devices that are there; CUDA_VISIBLE_DEVICES may hide some",
                field="device",
            )
        return self.numbers or tuple(range(present))

    def for_torch(self, present: int) -> str:
        """The first device chosen, as torch calls it. Raises what `among` raises."""
        gpus = self.among(
            present,
            library="torch",
            why_none="it is installed without GPU support, or no CUDA device answers",
            mend="install torch for CUDA (docs/gpu.md) and see what nvidia-smi says, or use --device cpu",
        )
        return f"cuda:{gpus[0]}" if gpus else "cpu"


AUTO = DeviceChoice("auto")
"""All GPUs where there are any that can be used, otherwise the CPU."""
CPU = DeviceChoice("cpu")


def parse_device(text: str) -> DeviceChoice:
    """`auto`, `cpu`, `cuda` (all devices), `cuda:1` or `cuda:0,1`.

    Raises:
        InvalidArgument: it is none of these.
    """
    match = _FORM.fullmatch(text.strip())
    numbers = tuple(map(int, match[2].split(","))) if match and match[2] else ()
    if match is None or (numbers and match[1] != "cuda") or len(set(numbers)) != len(numbers):
        raise InvalidArgument(
            f"the device is {text!r}; wanted auto, cpu, cuda, or cuda: and different numbers, as cuda:0,1",
            mend="use auto to let Pergamon choose",
            field="device",
        )
    kind: Literal["auto", "cpu", "cuda"] = "auto" if match[1] == "auto" else "cpu" if match[1] == "cpu" else "cuda"
    return DeviceChoice(kind, numbers)
