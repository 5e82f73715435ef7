"""Which language a text is in, by py3langid (after Lui and Baldwin 2012, "langid.py").

Its model, of 97 languages, comes with the library.
"""

from __future__ import annotations

from datastore.cleaning.settings import LanguageSettings
from datastore.errors import InvalidArgument
from datastore.sources.rejects import RefusedError


class LanguageFilter:
    """Refuses texts in other languages than those kept.

    Raises:
        InvalidArgument: a language that the model does not know.
    """

    def __init__(self, settings: LanguageSettings) -> None:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        self._settings = settings
        self._model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        known = sorted(self._model.labels)
        unknown = [language for language in settings.keep if language not in known]
        if unknown:
            raise InvalidArgument(
                f"the language {unknown[0]!r} cannot be identified",
                mend=f"name some of {', '.join(known)}",
                field="clean.language.keep",
            )

    def probabilities(self, text: str) -> dict[str, float]:
        """Language -> probability, the most likely first."""
        return dict(self._model.rank(text[: self._settings.characters]))

    def check(self, text: str) -> None:
        """Raise RefusedError unless the languages kept are likely enough, together."""
        by_language = self.probabilities(text)
        kept = sum(by_language[language] for language in self._settings.keep)
        if kept < self._settings.min_confidence:
            best, probability = next(iter(by_language.items()))
            wanted = f"{', '.join(self._settings.keep)} has {kept:.2f}; wanted {self._settings.min_confidence:g}"
            raise RefusedError("language", f"most likely {best} ({probability:.2f}); {wanted}")
