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
from datastore.sources.admission import check_document

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
        self._text_checks = _text_checks(settings)
        self._question_checks = self._contamination_checks(settings, encode)

    def mask(self, document: Document) -> tuple[Document, Counter[str]]:
        """`document` with its personal data masked, and how many places of each kind were.

        Offsets of its passages count in the masked text. Id, source and attributes stay as they are.

        Raises:
            RefusedError: the user's hook made something of it that is no document.
            InvalidArgument: the user's hook fails.
        """
        masked: Counter[str] = Counter()
        if self._mask:
            text, title = self._mask.mask(document.text, masked), self._mask.mask(document.title, masked)
            document = replace(document, text=text, title=title)
        if masked["hook"]:
            check_document(document)
        return document, masked

    def check(self, document: Document) -> None:
        """Raise RefusedError if a masked document does not pass a check."""
        for check in self._text_checks:
            check(document.text)
        for check in self._question_checks:
            check(f"{document.title}\n{document.text}")

    def _contamination_checks(self, settings: CleanSettings, encode: Encode) -> list[_Check]:
        contamination = settings.contamination
        if contamination is None:
            return []
        questions = read_questions(contamination.questions)
        if self._mask:
            questions = [question._replace(text=self._mask.mask(question.text, Counter())) for question in questions]
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
