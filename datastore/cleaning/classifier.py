"""Scores of a fastText classifier (Joulin et al. 2017), such as PreSelect's (Shum et al. 2025) or DCLM's.

A classifier is a file, and its numbers are all that is read of it: no code comes with a model.
"""

from __future__ import annotations

from datastore.cleaning.settings import ClassifierSettings
from datastore.errors import FailedPrecondition, InvalidArgument, NotFound
from datastore.sources.rejects import RefusedError

_PREFIX = "__label__"


class Classifier:
    """Refuses texts that get too small a probability of a label.

    Raises:
        FailedPrecondition: the library is not installed.
        NotFound: there is no such model.
        InvalidArgument: the file is no supervised fastText model, or has not the label.
    """

    def __init__(self, settings: ClassifierSettings) -> None:
        try:
            import fasttext
        except ImportError:
            raise FailedPrecondition(
                "clean.classifier needs fastText, which is not installed",
                mend="install it: pip install 'pergamon[classifier]'",
                field="clean.classifier",
            ) from None
        self._settings = settings
        self._label = _PREFIX + settings.label.removeprefix(_PREFIX)
        try:
            self._model = fasttext.load_model(settings.model)
        except (ValueError, MemoryError) as error:
            if "cannot be opened" in str(error):
                raise NotFound(
                    f"the fastText model {settings.model!r} cannot be opened",
                    mend="check the path and its permissions",
                    field="clean.classifier.model",
                ) from None
            raise InvalidArgument(
                f"{settings.model!r} is no fastText model: {error}",
                mend="name a .bin or .ftz file that fastText wrote",
                field="clean.classifier.model",
            ) from None
        labels = sorted(self._model.get_labels()) if self._model.f.getArgs().model.name == "supervised" else []
        if self._label not in labels:
            known = ", ".join(label.removeprefix(_PREFIX) for label in labels[:20])
            raise InvalidArgument(
                f"the model {settings.model!r} has no label {settings.label!r}",
                mend=f"name one of {known}" if labels else "name a model that fastText trained as a classifier",
                field="clean.classifier.label",
            )

    def score(self, text: str) -> float:
        """Probability of the label, of 0 … 1, for the text as one line."""
        labels, scores = self._model.predict(" ".join(text.split()).replace("\0", " "), k=-1)
        return min(max(float(scores[labels.index(self._label)]), 0.0), 1.0)

    def check(self, text: str) -> None:
        """Raise RefusedError unless the score is high enough."""
        score = self.score(text)
        if score < self._settings.min_score:
            label = self._settings.label.removeprefix(_PREFIX)
            detail = f"{label} has the score {score:.3f}; wanted {self._settings.min_score:g}"
            raise RefusedError("classifier", detail)
