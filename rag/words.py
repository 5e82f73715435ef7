"""The content words of a text: what questions, answers and passages are compared by where no model is asked."""

from __future__ import annotations

import re

STEM_CHARACTERS = 6
"""Words are cut to this many characters: the crudest stemmer, the same for every language with an alphabet."""

_WORD = re.compile(r"\w+")
_STOP_WORD_LIST = """
    a about above after again all also am an and any are as at be because been before being below between both but by
    can could did do does doing during each few for from further had has have having he her here hers him his how i if
    in into is it its just many may me might more most much must my no nor not of off on once only or other our ours
    out over own same shall she should so some such than that the their theirs them then there these they this those
    through to too under until up very was we were what when where which while who whom whose why will with would you
    your yours
"""
_STOP_WORDS = frozenset(_STOP_WORD_LIST.split())


def content_words(text: str) -> frozenset[str]:
    """The distinct words of `text`, lower-cased, without English stop words, each cut to STEM_CHARACTERS."""
    return frozenset(word[:STEM_CHARACTERS] for word in _WORD.findall(text.lower()) if word not in _STOP_WORDS)


def share_of(words: frozenset[str], among: frozenset[str]) -> float:
    """The share of `words` that are `among` others, 0 to 1; 0 where there are no words."""
    return len(words & among) / len(words) if words else 0.0
