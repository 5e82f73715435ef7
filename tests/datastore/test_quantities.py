"""Numbers as people write them."""

from __future__ import annotations

import pytest

from datastore.errors import InvalidArgument
from datastore.quantities import human_bytes, parse_bytes, parse_count


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.4T", 1_400_000_000_000),
        ("1.9B", 1_900_000_000),
        ("1.9g", 1_900_000_000),
        ("300 M", 300_000_000),
        ("12k", 12_000),
        ("1", 1),
        ("1e9", 1_000_000_000),
        ("1.5e+3", 1_500),
        ("1,000,000", 1_000_000),
        ("10_000", 10_000),
        (".5M", 500_000),
    ],
)
def test_counts(text: str, value: int) -> None:
    assert parse_count(text, "tokens") == value


@pytest.mark.parametrize(
    "text", ["", "T", "1.4X", "1.4TB", "-1", "nan", "inf", "0", "0.2", "1e99", "1..4T", "1,00", "1e"]
)
def test_bad_counts_are_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidArgument, match="tokens is") as caught:
        parse_count(text, "tokens")
    assert caught.value.field == "tokens"
    assert caught.value.mend


@pytest.mark.parametrize(
    ("text", "value"),
    [("512GiB", 512 << 30), ("512G", 512 << 30), ("1 TB", 10**12), ("1.5kb", 1500), ("77", 77), ("77b", 77)],
)
def test_sizes(text: str, value: int) -> None:
    assert parse_bytes(text, "ram") == value


@pytest.mark.parametrize("text", ["", "GiB", "1XB", "-1GB", "0", "1e9", "inf"])
def test_bad_sizes_are_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidArgument, match="ram is"):
        parse_bytes(text, "ram")


def test_sizes_are_shown_in_powers_of_1024() -> None:
    assert [human_bytes(size) for size in (0, 1023, 1536, 5 << 40, 5 << 50)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 TiB",
        "5120.0 TiB",
    ]
