"""What is personal data and what only looks like it; the numbers are the published examples of each standard."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from datastore.cleaning.personal import PersonalMask
from datastore.cleaning.settings import PersonalSettings
from datastore.errors import InvalidArgument


def mask(text: str, settings: PersonalSettings | None = None) -> str:
    return PersonalMask(settings or PersonalSettings()).mask(text, Counter())


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to jane.doe+list@mail.example.co.uk.", "write to [EMAIL]."),
        ("<joe@example.org>, müller@bücher.example", "<[EMAIL]>, [EMAIL]"),
        ("ping 192.168.0.1, then 8.8.8.8.", "ping [IPV4], then [IPV4]."),
        ("at 2001:db8::ff00:42:8329 and ::1", "at [IPV6] and [IPV6]"),
        ("call +44 20 7946 0958 or (212) 555-0123", "call [PHONE] or [PHONE]"),
        ("call 212-555-0123 or 030 1234567", "call [PHONE] or [PHONE]"),
        ("card 4111 1111 1111 1111, or 378282246310005", "card [CARD], or [CARD]"),
        ("IBAN DE89 3704 0044 0532 0130 00 and GB82WEST12345698765432.", "IBAN [IBAN] and [IBAN]."),
    ],
)
def test_what_is_masked(text: str, masked: str) -> None:
    assert mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "version 1.2.3.4.5 and 999.1.1.1",
        "from 10:30 to 12:45, Mark 4:12, std::vector and a::b",
        "user@host and @handle, 5 @ 3.20",
        "4111 1111 1111 1112 fails Luhn's sum",
        "DE88370400440532013000 fails modulo 97",
        "in 1984-2020 some 1,000,000 people, ISO 8601: 2024-05-17, 3.14159265358979",
        "0000 0000 0000 0000",
        "https://example.org/a/20240517/12345 and 10.1000/182",
        "",
    ],
)
def test_what_is_not(text: str) -> None:
    assert mask(text) == text


def test_kinds_are_chosen_and_counted() -> None:
    counts: Counter[str] = Counter()
    text = "a@example.org b@example.org 10.0.0.1"
    assert PersonalMask(PersonalSettings(mask=("email",))).mask(text, counts) == "[EMAIL] [EMAIL] 10.0.0.1"
    assert counts == {"email": 2}


def test_masking_again_changes_nothing() -> None:
    once = mask("a@example.org, 10.0.0.1, +44 20 7946 0958")
    assert mask(once) == once


def test_hostile_text_takes_no_time() -> None:
    for part in ("1", "1 ", "a@", "a.", ":", "+1 ", "AB12", "1.", "(12) ", "a@b."):
        mask(part * 30_000)


@pytest.fixture
def hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = "masking_hooks_of_a_test"
    code = """
value = 3
def names(text): return text.replace("Jane", "[NAME]")
def none(text): pass
def bad(text): return 1 / 0
"""
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_a_hook_of_the_users_own(hooks: str) -> None:
    counts: Counter[str] = Counter()
    masker = PersonalMask(PersonalSettings(hook=f"{hooks}:names"))
    assert [masker.mask(text, counts) for text in ("Jane: j@example.org", "nobody")] == ["[NAME]: [EMAIL]", "nobody"]
    assert counts == {"email": 1, "hook": 1}


@pytest.mark.parametrize(
    ("function", "problem"),
    [("none", "returns NoneType"), ("bad", "ZeroDivisionError"), ("value", "can be called"), ("gone", "can be called")],
)
def test_a_hook_that_fails_is_named(hooks: str, function: str, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        PersonalMask(PersonalSettings(hook=f"{hooks}:{function}")).mask("text", Counter())


@pytest.mark.parametrize("name", ["no_such_module_here:f", "os.path", ":f", "os:"])
def test_a_hook_that_is_none(name: str) -> None:
    with pytest.raises(InvalidArgument, match="masking hook"):
        PersonalMask(PersonalSettings(hook=name))
