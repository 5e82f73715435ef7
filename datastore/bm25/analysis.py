"""From text to terms: Lucene's analyzers by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from datastore.bm25.jvm import java_class, java_text, lucene
from datastore.errors import InvalidArgument


def _anserini_english() -> Any:
    return java_class("io.anserini.analysis.DefaultEnglishAnalyzer").newDefaultInstance()


def _lucene_default(name: str) -> Any:
    return lucene(f"analysis.{name}")()


ANALYZERS: Mapping[str, Callable[[], Any]] = {
    "english": _anserini_english,
    "standard": partial(_lucene_default, "standard.StandardAnalyzer"),
    "whitespace": partial(_lucene_default, "core.WhitespaceAnalyzer"),
    "arabic": partial(_lucene_default, "ar.ArabicAnalyzer"),
    "bengali": partial(_lucene_default, "bn.BengaliAnalyzer"),
    "cjk": partial(_lucene_default, "cjk.CJKAnalyzer"),
    "danish": partial(_lucene_default, "da.DanishAnalyzer"),
    "dutch": partial(_lucene_default, "nl.DutchAnalyzer"),
    "finnish": partial(_lucene_default, "fi.FinnishAnalyzer"),
    "french": partial(_lucene_default, "fr.FrenchAnalyzer"),
    "german": partial(_lucene_default, "de.GermanAnalyzer"),
    "hindi": partial(_lucene_default, "hi.HindiAnalyzer"),
    "hungarian": partial(_lucene_default, "hu.HungarianAnalyzer"),
    "indonesian": partial(_lucene_default, "id.IndonesianAnalyzer"),
    "italian": partial(_lucene_default, "it.ItalianAnalyzer"),
    "japanese": partial(_lucene_default, "ja.JapaneseAnalyzer"),
    "norwegian": partial(_lucene_default, "no.NorwegianAnalyzer"),
    "persian": partial(_lucene_default, "fa.PersianAnalyzer"),
    "portuguese": partial(_lucene_default, "pt.PortugueseAnalyzer"),
    "russian": partial(_lucene_default, "ru.RussianAnalyzer"),
    "spanish": partial(_lucene_default, "es.SpanishAnalyzer"),
    "swedish": partial(_lucene_default, "sv.SwedishAnalyzer"),
    "turkish": partial(_lucene_default, "tr.TurkishAnalyzer"),
}
"""Name, as it is recorded in a datastore, -> how to make the analyzer.

"english" is Anserini's default: Lucene's standard tokenizer, possessives removed, lower case, stop words, Porter's
stemmer. "whitespace" keeps case and punctuation; "cjk" makes bigrams of Chinese, Japanese and Korean.
"""


def check_analyzer(name: str) -> None:
    """Raise InvalidArgument unless there is an analyzer of this name."""
    if name not in ANALYZERS:
        raise InvalidArgument(
            f"analyzer is {name!r}; wanted one of {', '.join(ANALYZERS)}", mend="pass one of those", field="analyzer"
        )


def terms_of(analyzer: Any, text: str) -> list[str]:
    """The analysed terms of a text in their order, repetitions included."""
    terms = java_class("io.anserini.analysis.AnalyzerUtils").analyze(analyzer, java_text(text))
    # One string crosses the bridge instead of one a term. No tokenizer leaves a line feed in a term.
    return str(java_class("java.lang.String").join("\n", terms)).split("\n") if len(terms) else []
