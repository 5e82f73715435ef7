"""Numbers as people write them: 1.4T tokens, 512GiB of memory."""

from __future__ import annotations

import math
import re

from datastore.errors import InvalidArgument

_COUNT = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(?:e\+?(\d{1,2}))?\s*([kmbgt]?)", re.IGNORECASE)
_THOUSANDS = re.compile(r"(?<=\d)[_,](?=\d{3}(?!\d))")
_SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}
_BYTES = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(?:([kmgtp])(i?)b?|b?)", re.IGNORECASE)
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_MAX = 10**18


def parse_count(text: str, field: str) -> int:
    """`1.4T` -> 1_400_000_000_000. Suffixes K, M, B (or G) and T are thousands, millions, billions and trillions.

    Raises:
        InvalidArgument: it is no such number, or not between 1 and 10^18.
    """
    match = _COUNT.fullmatch(_THOUSANDS.sub("", text.strip()))
    if match is None:
        raise InvalidArgument(
            f"{field} is {text!r}; it must be a number with at most one of the suffixes K, M, B and T",
            mend="write it as 1400000000000, 1.4e12 or 1.4T",
            field=field,
        )
    number, exponent, suffix = match.groups()
    value = float(number) * 10.0 ** int(exponent or 0) * _SUFFIXES[suffix.lower()]
    if not 1 <= value <= _MAX:
        raise InvalidArgument(
            f"{field} is {text!r}; it must be between 1 and 10^18", mend="check number and suffix", field=field
        )
    return round(value)


def parse_bytes(text: str, field: str) -> int:
    """`512GiB` -> 549_755_813_888. KB, MB, GB, TB, PB are powers of 1000; KiB … and a bare K, M, G, T, P of 1024.

    Raises:
        InvalidArgument: it is no such size, or none above zero.
    """
    match = _BYTES.fullmatch(text.strip())
    value = 0.0
    if match is not None:
        number, letter, binary = match.groups()
        bare = letter is not None and match.group().rstrip()[-1].lower() != "b"
        base = 1024 if binary or bare else 1000
        value = float(number) * (base ** _POWERS[letter.lower()] if letter else 1)
    if not 1 <= value <= _MAX or not math.isfinite(value):
        raise InvalidArgument(
            f"{field} is {text!r}; it must be a size above zero with a unit",
            mend="write it as 512GiB, 512GB or 549755813888",
            field=field,
        )
    return round(value)


def human_bytes(count: float) -> str:
    """1536 -> '1.5 KiB'."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError
