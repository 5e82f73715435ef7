"""Gopher's rules on words and lines (Rae et al. 2021, "Scaling Language Models", appendix A.1.1).

A word is a run of characters other than white space, so the rules are for languages that put spaces between words.
"""

from __future__ import annotations

import re

from datastore.cleaning.settings import GopherSettings
from datastore.sources.rejects import RefusedError

_ELLIPSIS = re.compile(r"\.\.\.+|…")
_BULLETS = ("•", "‣", "◦", "▪", "●", "○", "■", "□", "*", "-", "–", "·")
_EDGES = " \t.,;:!?\"'()[]{}<>«»“”‘’…*_-"


def check_gopher(text: str, settings: GopherSettings) -> None:
    """Raise RefusedError at the first rule that `text` breaks."""
    words = text.split()
    count = len(words)
    if not settings.min_words <= count <= settings.max_words:
        wanted = f"{settings.min_words} to {settings.max_words}"
        raise RefusedError("word count", f"{count} words; wanted {wanted}")
    count = max(count, 1)
    mean = sum(map(len, words)) / count
    if not settings.min_mean_word_length <= mean <= settings.max_mean_word_length:
        wanted = f"{settings.min_mean_word_length:g} to {settings.max_mean_word_length:g}"
        raise RefusedError("word length", f"a word has {mean:.2f} characters on average; wanted {wanted}")
    symbols = {"#": text.count("#"), "ellipses": len(_ELLIPSIS.findall(text))}
    for name, found in symbols.items():
        if found > settings.max_symbols_per_word * count:
            limit = settings.max_symbols_per_word
            raise RefusedError("symbols", f"{name} come {found / count:.3f} times a word; at most {limit:g} are taken")
    lines = [line.strip() for line in text.splitlines() if not line.isspace() and line]
    bullets = sum(line.startswith(_BULLETS) for line in lines)
    if bullets > settings.max_bullet_lines * len(lines):
        raise RefusedError("bullet lines", _too_many(bullets, lines, "begin with a bullet", settings.max_bullet_lines))
    ellipses = sum(line.endswith(("...", "…")) for line in lines)
    if ellipses > settings.max_ellipsis_lines * len(lines):
        raise RefusedError(
            "ellipsis lines", _too_many(ellipses, lines, "end in an ellipsis", settings.max_ellipsis_lines)
        )
    alphabetic = sum(any(map(str.isalpha, word)) for word in words)
    if alphabetic < settings.min_alphabetic_words * count:
        limit = settings.min_alphabetic_words
        raise RefusedError(
            "alphabetic words", f"{alphabetic} of {count} words have a letter; wanted a share of {limit:g}"
        )
    if settings.min_stop_words:
        stop_words = set(settings.stop_words)
        found = len(stop_words.intersection(word.strip(_EDGES).casefold() for word in words))
        if found < settings.min_stop_words:
            raise RefusedError("stop words", f"{found} of the stop words are there; wanted {settings.min_stop_words}")


def _too_many(found: int, lines: list[str], what: str, limit: float) -> str:
    return f"{found} of {len(lines)} lines {what}; at most a share of {limit:g} is taken"
