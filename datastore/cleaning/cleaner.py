"""All steps of cleaning that look at one document by itself, in the order they are taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from datastore.cleaning.classifier import Classifier
from datastore.cleaning.contamination import ContaminationFilter
from datastore.cleaning.fineweb import check_fineweb
from datastore.cleaning.gopher import check_gopher
from datastore.cleaning.language import LanguageFilter
from datastore.cleaning.personal import PersonalMask
from datastore.cleaning.questions import read_questions
from datastore.cleaning.repetition import check_repetition
from datastore.cleaning.rephrased import Encode, RephrasedFilter
from datastore.cleaning.settings import CleanSettings
from datastore.cleaning.words import WordHasher
from datastore.documents import Document

_Check = Callable[[str], None]


class Cleaner:
    """Takes documents one by one; what becomes of one depends on it and the settings alone.

    Personal data is masked first, so that every later step sees what would be stored; questions are masked likewise.
    Then come the checks, the cheap ones first. Rules on quality and the language are of the text; questions are looked
    for in title and text. Duplicates are another matter, as they need all documents (`duplicates`).

    Args:
        encode: from texts to vectors, called only where rephrased questions are looked for.

    Raises:
        InvalidArgument, NotFound, FailedPrecondition: a file, language, label or hook that the settings name.
    """

    def __init__(self, settings: CleanSettings, encode: Encode) -> None:
        self._mask = PersonalMask(settings.personal) if settings.personal else None
        self.masked: Counter[str] = self._mask.counts if self._mask else Counter()
        """Kind of personal data -> places masked so far."""
        self._text_checks = _text_checks(settings)
        self._question_checks = self._contamination_checks(settings, encode)

    def clean(self, document: Document) -> Document:
        """`document`, its personal data masked; offsets of its passages count in the masked text.

        Raises:
            RefusedError: a check that it does not pass.
        """
        if self._mask:
            document = replace(document, text=self._mask.mask(document.text), title=self._mask.mask(document.title))
        for check in self._text_checks:
            check(document.text)
        for check in self._question_checks:
            check(f"{document.title}\n{document.text}")
        return document

    def _contamination_checks(self, settings: CleanSettings, encode: Encode) -> list[_Check]:
        contamination = settings.contamination
        if contamination is None:
            return []
        questions = read_questions(contamination.questions)
        if self._mask:
            questions = [question._replace(text=self._mask.mask(question.text)) for question in questions]
            self._mask.counts.clear()
        checks: list[_Check] = [ContaminationFilter(contamination, questions).check]
        if contamination.rephrased:
            checks.append(RephrasedFilter(contamination.rephrased, questions, encode).check)
        return checks


def _text_checks(settings: CleanSettings) -> list[_Check]:
    checks: list[_Check] = []
    if gopher := settings.gopher:
        checks.append(lambda text: check_gopher(text, gopher))
    if fineweb := settings.fineweb:
        checks.append(lambda text: check_fineweb(text, fineweb))
    if repetition := settings.repetition:
        hasher = WordHasher()
        checks.append(lambda text: check_repetition(text, repetition, hasher))
    if settings.language:
        checks.append(LanguageFilter(settings.language).check)
    if settings.classifier:
        checks.append(Classifier(settings.classifier).check)
    return checks
