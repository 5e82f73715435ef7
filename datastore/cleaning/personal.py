"""Personal data in text, and tags in its place.

Patterns find what looks like the data; checksums (Luhn for cards, ISO 7064 for IBANs) and the address parser of the
standard library decide. They know no names and no street addresses, and miss what is written in words: masking lowers
a risk, it does not make a text anonymous.
"""

from __future__ import annotations

import importlib
import ipaddress
import re
from collections import Counter
from collections.abc import Callable
from functools import partial

from datastore.cleaning.settings import PersonalKind, PersonalSettings
from datastore.errors import InvalidArgument

_EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24}(?![\w@-])")
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)")
_IPV6 = re.compile(
    r"(?<![\w:.])(?=[0-9A-Fa-f:]*:[0-9A-Fa-f:]*:)[0-9A-Fa-f:]{3,39}(?:\d{1,3}(?:\.\d{1,3}){3})?(?![\w:])"
)
_CARD = re.compile(r"(?<![\w.+-])\d(?:[ -]?\d){12,18}(?![\w-]|\.\d)")
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?!\w)")
_PHONE = re.compile(
    r"(?<![\w.:/-])(?:"
    r"\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,6}"  # international
    r"|\(\d{2,5}\) ?\d{2,4}(?:[ .-]?\d{2,5}){1,3}"  # area code in brackets
    r"|\d{3}[ .-]\d{3}[ .-]\d{4}"  # North American
    r"|0\d{1,4}[ /-]\d{2,4}(?:[ -]?\d{2,5}){1,3}"  # national, with a trunk zero
    r")(?![\w-]|\.\d)"
)

Masker = Callable[[str], str]


def _always(_: str) -> bool:
    return True


def _is_ip(version: int, found: str) -> bool:
    if not any(map(str.isdigit, found)):  # a::b is code
        return False
    try:
        return ipaddress.ip_address(found).version == version
    except ValueError:
        return False


def _is_card(found: str) -> bool:
    """Luhn's checksum (ISO/IEC 7812): from the right, every second digit is doubled, and the sum ends in 0."""
    digits = [int(character) for character in found if character.isdigit()]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_iban(found: str) -> bool:
    """ISO 13616: country and check digits moved to the end, letters as 10 … 35, leave 1 modulo 97."""
    plain = found.replace(" ", "")
    return 15 <= len(plain) <= 34 and int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def _is_phone(found: str) -> bool:
    return 7 <= sum(character.isdigit() for character in found) <= 15


_KINDS: dict[PersonalKind, tuple[re.Pattern[str], Callable[[str], bool]]] = {
    "email": (_EMAIL, _always),
    "iban": (_IBAN, _is_iban),
    "card": (_CARD, _is_card),
    "ipv6": (_IPV6, partial(_is_ip, 6)),
    "ipv4": (_IPV4, partial(_is_ip, 4)),
    "phone": (_PHONE, _is_phone),
}
"""In the order they are looked for: a card's digits would be a phone number, too."""


class PersonalMask:
    """Masks texts.

    Raises:
        InvalidArgument: the hook cannot be imported or called.
    """

    def __init__(self, settings: PersonalSettings) -> None:
        self._kinds = [(kind, *_KINDS[kind]) for kind in _KINDS if kind in settings.mask]
        self._hook_name = settings.hook
        self._hook = load_hook(settings.hook) if settings.hook else None

    def mask(self, text: str, counts: Counter[str]) -> str:
        """`text` with `[EMAIL]`, `[IPV4]`, … in the place of what was found, then through the hook.

        Args:
            counts: of places by kind, which are added to; `hook` counts the texts that the hook changed.

        Raises:
            InvalidArgument: the hook fails, or returns something else than text.
        """
        for kind, pattern, is_one in self._kinds:
            text = _replace(text, kind, pattern, is_one, counts)
        if self._hook is None:
            return text
        try:
            masked: object = self._hook(text)
        except Exception as error:
            raise _bad_hook(self._hook_name, f"fails: {type(error).__name__}: {error}") from error
        if not isinstance(masked, str):
            raise _bad_hook(self._hook_name, f"returns {type(masked).__name__}; wanted str")
        if masked != text:
            counts["hook"] += 1
        return masked


def _replace(
    text: str, kind: str, pattern: re.Pattern[str], is_one: Callable[[str], bool], counts: Counter[str]
) -> str:
    def tagged(match: re.Match[str]) -> str:
        if not is_one(match[0]):
            return match[0]
        counts[kind] += 1
        return f"[{kind.upper()}]"

    return pattern.sub(tagged, text)


def load_hook(name: str) -> Masker:
    """The callable that `module:function` names.

    It is code of the user's own: the settings name it as a script would import it, and nothing that comes from an
    input, a model or a store ever does.
    """
    module_name, _, function_name = name.partition(":")
    if not (module_name and function_name):
        raise _bad_hook(name, "is not module:function")
    try:
        hook = importlib.import_module(module_name)
    except ImportError as error:
        raise _bad_hook(name, f"cannot be imported: {error}") from error
    function: object = getattr(hook, function_name, None)
    if not callable(function):
        raise _bad_hook(name, "names nothing that can be called")
    return function


def _bad_hook(name: str | None, problem: str) -> InvalidArgument:
    return InvalidArgument(
        f"the masking hook {name!r} {problem}",
        mend="name a function from str to str as module:function, in a module on the Python path",
        field="clean.personal.hook",
    )
