"""Documents that hold questions of evaluation sets: by longest common run of words, and by common n-grams in a window.

A common run of 13 words is what GPT-3's evaluation looked for (Brown et al. 2020, appendix C), and Jaccard similarity
of n-grams what MassiveDS's did (Shao et al. 2024). Questions are short: so a run is also contamination if it is most of
a question, and the n-grams are of three words, compared with a window of the text as long as the question.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datastore.cleaning.questions import Question
from datastore.cleaning.settings import ContaminationSettings
from datastore.cleaning.words import Hashes, WordHasher, ngrams, split_words
from datastore.sources.rejects import RefusedError

_COMMON = 20
"""An n-gram of more questions than this is a turn of phrase, and no evidence for any of them."""
_LEAST_NGRAMS = 4
"""A question with fewer n-grams that count is not compared by them."""

_LEAST_PART = 6
"""Words of a part of a question that is no more the whole of it: fewer are a turn of phrase."""

Positions = NDArray[np.int64]


class _Hits(NamedTuple):
    """Where n-grams of a text are n-grams of questions; int64[hits] each."""

    question: Positions
    in_question: Positions
    in_text: Positions


class _Index:
    """From n-grams to where they stand in questions."""

    def __init__(self, grams: Sequence[Hashes], most: int | None = None) -> None:
        lengths = [len(each) for each in grams]
        values = np.concatenate([*grams, np.empty(0, np.uint64)])
        question = np.repeat(np.arange(len(grams)), lengths)
        place = np.concatenate([*(np.arange(length) for length in lengths), np.empty(0, np.int64)])
        order = np.argsort(values, kind="stable")
        keys, starts, counts = np.unique(values[order], return_index=True, return_counts=True)
        kept = np.ones(len(keys), bool) if most is None else counts <= most
        self._keys, self._starts, self._counts = keys[kept], starts[kept], counts[kept]
        self._question, self._place = question[order], place[order]

    def find(self, grams: Hashes) -> _Hits:
        if not len(self._keys) or not len(grams):
            return _Hits(*np.empty((3, 0), np.int64))
        entry = np.minimum(np.searchsorted(self._keys, grams), len(self._keys) - 1)
        in_text = np.flatnonzero(self._keys[entry] == grams)
        entry = entry[in_text]
        counts = self._counts[entry]
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        at = np.repeat(self._starts[entry], counts) + offsets
        return _Hits(self._question[at], self._place[at], np.repeat(in_text, counts))

    def sizes(self, questions: int) -> Positions:
        """Number of different n-grams of each question that are in the index."""
        entry = np.repeat(np.arange(len(self._counts)), self._counts)
        offsets = np.arange(len(entry)) - np.repeat(np.cumsum(self._counts) - self._counts, self._counts)
        question = self._question[np.repeat(self._starts, self._counts) + offsets]
        pairs = np.unique(entry * max(questions, 1) + question)
        return np.bincount(pairs % max(questions, 1), minlength=questions)


class ContaminationFilter:
    """Refuses texts that hold one of the questions."""

    def __init__(self, settings: ContaminationSettings, questions: Sequence[Question]) -> None:
        self._settings = settings
        self._hasher = WordHasher()
        hashed = [self._hasher.hash(split_words(question.text)) for question in questions]
        long_enough = [i for i, words in enumerate(hashed) if len(words) >= settings.min_words]
        self.questions = [questions[i] for i in long_enough]
        """Those that are looked for: of at least `min_words` words."""
        words = [hashed[i] for i in long_enough]
        self._lengths = np.array([len(each) for each in words], np.int64)
        parts = np.maximum(np.ceil(settings.run_share * self._lengths - 1e-9).astype(np.int64), _LEAST_PART)
        self._wanted = np.minimum(np.minimum(self._lengths, parts), settings.run_words)
        self._n = settings.ngram_words
        self._run_grams = min(settings.min_words, settings.run_words)
        self._runs = _Index([ngrams(each, self._run_grams) for each in words])
        self._ngrams = _Index([ngrams(each, self._n) for each in words] if settings.min_jaccard else [], _COMMON)
        self._sizes = self._ngrams.sizes(len(words))

    def check(self, text: str) -> None:
        """Raise RefusedError if `text` holds one of the questions."""
        words = self._hasher.hash(split_words(text))
        self._check_runs(words)
        if self._settings.min_jaccard:
            self._check_ngrams(words)

    def _check_runs(self, words: Hashes) -> None:
        hits = self._runs.find(ngrams(words, self._run_grams))
        if not len(hits.question):
            return
        # Hits follow one another in a run if both positions grow by one: on one diagonal of one question.
        diagonal = hits.in_text - hits.in_question
        order = np.lexsort((hits.in_text, diagonal, hits.question))
        question, diagonal, in_text = hits.question[order], diagonal[order], hits.in_text[order]
        begins = np.ones(len(order), bool)
        begins[1:] = (np.diff(question) != 0) | (np.diff(diagonal) != 0) | (np.diff(in_text) != 1)
        starts = np.flatnonzero(begins)
        runs = np.diff(np.append(starts, len(order))) + self._run_grams - 1
        found = np.flatnonzero(runs >= self._wanted[question[starts]])
        if len(found):
            best = found[runs[found].argmax()]
            raise self._refuse(int(question[starts[best]]), f"{runs[best]} words in a row")

    def _check_ngrams(self, words: Hashes) -> None:
        hits = self._ngrams.find(ngrams(words, self._n))
        least = self._least()
        asked, counts = np.unique(hits.question, return_counts=True)
        for question in asked[(counts >= least[asked]) & (self._sizes[asked] >= _LEAST_NGRAMS)].tolist():
            mine = hits.question == question
            similarity = self._window(hits.in_text[mine], hits.in_question[mine], question)
            if similarity >= self._settings.min_jaccard:
                raise self._refuse(question, f"Jaccard {similarity:.2f} of {self._n}-grams")

    def _least(self) -> Positions:
        """Of each question, the common n-grams that the Jaccard similarity wanted takes: J = c / (2 - c)."""
        share = 2 * self._settings.min_jaccard / (1 + self._settings.min_jaccard)
        least: Positions = np.ceil(share * self._sizes - 1e-9).astype(np.int64)
        return least

    def _window(self, in_text: Positions, in_question: Positions, question: int) -> float:
        """Greatest Jaccard similarity to a window of the text that has as many n-grams as the question that count."""
        width = int(self._lengths[question]) - self._n + 1
        ends = np.searchsorted(in_text, in_text + width)
        most = max(len(set(in_question[i:end].tolist())) for i, end in enumerate(ends.tolist()))
        size = int(self._sizes[question])
        return min(most, size) / (2 * size - min(most, size))

    def _refuse(self, question: int, how: str) -> RefusedError:
        found = self.questions[question]
        return RefusedError("contaminated", f"{how} with line {found.line} of {found.file}: {found.text[:80]!r}")
