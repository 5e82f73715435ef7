"""What `[clean]` of a build's settings may say. A step whose table is absent is off; an empty table has its defaults.

A document is refused for less than a `min_` and for more than a `max_`, not for equality: so 0 and 1 turn off the rule
of a share.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

_STRICT = ConfigDict(extra="forbid")
Share = Annotated[float, Field(ge=0, le=1)]
Words = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]
FilePath = Annotated[Text, AfterValidator(lambda value: str(Path(value).absolute()))]
"""Of a file that documents are held against; absolute, as workers and later additions run in other folders."""
PersonalKind = Literal["email", "ipv4", "ipv6", "phone", "iban", "card"]


@dataclass(frozen=True, slots=True)
class LanguageSettings:
    """Keep documents in some languages."""

    __pydantic_config__ = _STRICT
    keep: Annotated[tuple[Text, ...], Field(min_length=1)] = ("en",)
    """ISO 639-1 codes."""
    min_confidence: Share = 0.65
    """The least probability of the languages kept, together. 0.65 is FineWeb's."""
    characters: Annotated[int, Field(ge=100)] = 2_000
    """Of the text, looked at from its beginning: more of them tell nothing new, and take time."""


@dataclass(frozen=True, slots=True)
class GopherSettings:
    """Rules on words and lines (Rae et al. 2021, "Scaling Language Models", appendix A.1.1)."""

    __pydantic_config__ = _STRICT
    min_words: Words = 50
    max_words: Words = 100_000
    min_mean_word_length: Annotated[float, Field(ge=0)] = 3
    max_mean_word_length: Annotated[float, Field(ge=0)] = 10
    max_symbols_per_word: Annotated[float, Field(ge=0)] = 0.1
    """Of `#`, and of ellipses, each."""
    max_bullet_lines: Share = 0.9
    max_ellipsis_lines: Share = 0.3
    min_alphabetic_words: Share = 0.8
    min_stop_words: Words = 2
    """Different ones of `stop_words`."""
    stop_words: tuple[str, ...] = ("the", "be", "to", "of", "and", "that", "have", "with")


@dataclass(frozen=True, slots=True)
class RepetitionSettings:
    """Rules on repetition (Rae et al. 2021, table A1). Shares are of lines, paragraphs or characters."""

    __pydantic_config__ = _STRICT
    max_duplicate_lines: Share = 0.3
    max_duplicate_paragraphs: Share = 0.3
    max_duplicate_line_characters: Share = 0.2
    max_duplicate_paragraph_characters: Share = 0.2
    max_top_2_gram: Share = 0.2
    max_top_3_gram: Share = 0.18
    max_top_4_gram: Share = 0.16
    max_duplicate_5_grams: Share = 0.15
    max_duplicate_6_grams: Share = 0.14
    max_duplicate_7_grams: Share = 0.13
    max_duplicate_8_grams: Share = 0.12
    max_duplicate_9_grams: Share = 0.11
    max_duplicate_10_grams: Share = 0.1

    def top(self, n: int) -> float:
        """The limit for the most frequent `n`-gram, `n` in 2 … 4."""
        return (self.max_top_2_gram, self.max_top_3_gram, self.max_top_4_gram)[n - 2]

    def duplicate(self, n: int) -> float:
        """The limit for `n`-grams that come more than once, `n` in 5 … 10."""
        return (
            self.max_duplicate_5_grams,
            self.max_duplicate_6_grams,
            self.max_duplicate_7_grams,
            self.max_duplicate_8_grams,
            self.max_duplicate_9_grams,
            self.max_duplicate_10_grams,
        )[n - 5]


@dataclass(frozen=True, slots=True)
class FineWebSettings:
    """Rules on lines (Penedo et al. 2024, "The FineWeb Datasets", section 3.6)."""

    __pydantic_config__ = _STRICT
    min_punctuated_lines: Share = 0.12
    """Lines that end in a mark that ends a sentence or a quotation."""
    max_short_lines: Share = 0.67
    short_line_characters: Annotated[int, Field(ge=1)] = 30
    """A line of fewer is short."""
    max_duplicate_line_characters: Share = 0.1


@dataclass(frozen=True, slots=True)
class ClassifierSettings:
    """Keep documents that a fastText classifier gives a label at least some probability of."""

    __pydantic_config__ = _STRICT
    model: FilePath
    """Path of a `.bin` or `.ftz` file."""
    label: Text
    """With or without its prefix `__label__`."""
    min_score: Share = 0.5


@dataclass(frozen=True, slots=True)
class DuplicateSettings:
    """Keep one of documents with the same text, or nearly the same."""

    __pydantic_config__ = _STRICT
    exact: bool = True
    near: bool = True
    min_jaccard: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Of the sets of shingles of two documents that are near-duplicates."""
    shingle_words: Annotated[int, Field(ge=1, le=100)] = 13
    """A shorter text has one shingle, all of it."""
    permutations: Annotated[int, Field(ge=16, le=1024)] = 128
    """Minima of a signature at most. More find more pairs just above the limit, in more time."""


@dataclass(frozen=True, slots=True)
class RephrasedSettings:
    """Contamination by rephrased questions: sentences whose embeddings lie near a question's."""

    __pydantic_config__ = _STRICT
    min_cosine: Share = 0.85
    min_shared_words: Share = 0.5
    """Of a question's content words, that a sentence must have before the two are embedded; 0 embeds all."""


@dataclass(frozen=True, slots=True)
class ContaminationSettings:
    """Leave out documents that hold questions of evaluation sets."""

    __pydantic_config__ = _STRICT
    questions: Annotated[tuple[FilePath, ...], Field(min_length=1)]
    """Files: JSON Lines with `question` or `text` (also gzip, zstd; so BEIR's queries.jsonl), or plain lines (.txt)."""
    run_words: Annotated[int, Field(ge=2, le=1000)] = 13
    """A common run of so many words is contamination, whatever the question's length."""
    run_share: Annotated[float, Field(gt=0, le=1)] = 0.6
    """So is one of this share of the question's words, and at least 6; and the whole question in any case."""
    min_words: Annotated[int, Field(ge=2, le=1000)] = 5
    """Shorter questions are not looked for: their words are in many texts."""
    min_jaccard: Annotated[float, Field(ge=0, le=1)] = 0.6
    """Of n-grams, of a question and of a window of the text as long as it; 0 turns this off."""
    ngram_words: Annotated[int, Field(ge=1, le=100)] = 3
    rephrased: RephrasedSettings | None = None


@dataclass(frozen=True, slots=True)
class PersonalSettings:
    """Put tags in the place of personal data, before anything else looks at the text."""

    __pydantic_config__ = _STRICT
    mask: tuple[PersonalKind, ...] = ("email", "ipv4", "ipv6", "phone", "iban", "card")
    hook: str | None = None
    """`module:function`, a callable of the user's own, from text to text, after the built-in masks."""


@dataclass(frozen=True, slots=True)
class CleanSettings:
    """Every step of cleaning, all off unless given."""

    __pydantic_config__ = _STRICT
    personal: PersonalSettings | None = None
    gopher: GopherSettings | None = None
    repetition: RepetitionSettings | None = None
    fineweb: FineWebSettings | None = None
    language: LanguageSettings | None = None
    classifier: ClassifierSettings | None = None
    contamination: ContaminationSettings | None = None
    duplicates: DuplicateSettings | None = None

    @property
    def compared(self) -> DuplicateSettings | None:
        """Of duplicates, where any kind of them is left out."""
        wanted = self.duplicates
        return wanted if wanted and (wanted.exact or wanted.near) else None

    def files(self) -> list[str]:
        """Paths of the files that documents are held against."""
        models = [self.classifier.model] if self.classifier else []
        return [*models, *(self.contamination.questions if self.contamination else ())]
