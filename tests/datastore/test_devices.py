from __future__ import annotations

import pytest

from datastore.devices import AUTO, CPU, DeviceChoice, parse_device
from datastore.errors import FailedPrecondition, InvalidArgument

WHY = {"library": "FAISS", "why_none": "no device answers", "mend": "use --device cpu"}


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("auto", AUTO),
        ("cpu", CPU),
        (" cuda ", DeviceChoice("cuda")),
        ("cuda:1", DeviceChoice("cuda", (1,))),
        ("cuda:2,0", DeviceChoice("cuda", (2, 0))),
    ],
)
def test_a_device_is_read(text: str, choice: DeviceChoice) -> None:
    assert parse_device(text) == choice
    assert parse_device(str(choice)) == choice


@pytest.mark.parametrize(
    "text", ["", "gpu", "CUDA", "cuda:", "cuda:x", "cuda:-1", "cuda:0,", "cuda:1,1", "cpu:0", "auto:0"]
)
def test_what_is_no_device_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="wanted auto, cpu, cuda") as raised:
        parse_device(text)
    assert raised.value.field == "device"
    assert repr(text) in raised.value.problem


def test_a_choice_among_what_is_there() -> None:
    assert AUTO.among(0, **WHY) == ()
    assert AUTO.among(2, **WHY) == (0, 1)
    assert CPU.among(2, **WHY) == ()
    assert DeviceChoice("cuda").among(3, **WHY) == (0, 1, 2)
    assert DeviceChoice("cuda", (2, 0)).among(3, **WHY) == (2, 0)


def test_what_was_asked_for_must_be_there() -> None:
    with pytest.raises(
        FailedPrecondition, match="the device is cuda:0, which FAISS cannot use: no device answers"
    ) as one:
        DeviceChoice("cuda", (0,)).among(0, **WHY)
    assert (one.value.mend, one.value.field) == ("use --device cpu", "device")
    with pytest.raises(FailedPrecondition, match="the device is cuda:0,2; FAISS finds 2, numbered 0 to 1"):
        DeviceChoice("cuda", (0, 2)).among(2, **WHY)


def test_torch_takes_the_first() -> None:
    assert AUTO.for_torch(0) == "cpu"
    assert AUTO.for_torch(2) == "cuda:0"
    assert DeviceChoice("cuda", (1, 0)).for_torch(2) == "cuda:1"
    assert CPU.for_torch(2) == "cpu"
    with pytest.raises(FailedPrecondition, match="which torch cannot use"):
        DeviceChoice("cuda").for_torch(0)
