from __future__ import annotations

import pytest

from datastore.cleaning.language import LanguageFilter
from datastore.cleaning.settings import LanguageSettings
from datastore.errors import InvalidArgument
from datastore.sources.rejects import RefusedError

TEXTS = {
    "en": "The committee met on Tuesday and discussed the proposal to extend the harbour wall before winter.",
    "de": "Der Ausschuss tagte am Dienstag und besprach ausführlich den Vorschlag, die Hafenmauer zu verlängern.",
    "fr": "Le comité s'est réuni mardi et a longuement discuté de la proposition de prolonger la digue du port.",
    "ru": "Комитет собрался во вторник и подробно обсудил предложение удлинить стену гавани до начала зимы.",
    "ja": "委員会は火曜日に開かれ、冬の嵐が来る前に港の壁を延長する提案について詳しく話し合いました。",
}


@pytest.fixture(scope="module")
def english() -> LanguageFilter:
    return LanguageFilter(LanguageSettings())


@pytest.mark.parametrize("language", TEXTS)
def test_languages_are_told_apart(english: LanguageFilter, language: str) -> None:
    probabilities = english.probabilities(TEXTS[language])
    assert next(iter(probabilities)) == language
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("language", sorted(set(TEXTS) - {"en"}))
def test_others_are_refused(english: LanguageFilter, language: str) -> None:
    english.check(TEXTS["en"])
    with pytest.raises(RefusedError, match=f"most likely {language}") as caught:
        english.check(TEXTS[language])
    assert caught.value.reason == "language"


def test_what_is_no_language_is_refused(english: LanguageFilter) -> None:
    for text in ("", "1 2 3 4", "\ud800"):
        with pytest.raises(RefusedError):
            english.check(text)


def test_languages_kept_count_together() -> None:
    both = LanguageFilter(LanguageSettings(keep=("de", "fr"), min_confidence=0.99))
    both.check(TEXTS["de"])
    both.check(TEXTS["fr"])
    with pytest.raises(RefusedError):
        both.check(TEXTS["en"])


def test_an_unknown_language_is_named() -> None:
    with pytest.raises(InvalidArgument, match="'english' cannot be identified"):
        LanguageFilter(LanguageSettings(keep=("english",)))
