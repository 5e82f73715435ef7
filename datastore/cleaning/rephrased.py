"""Sentences that ask a question of an evaluation set in other words, by their embeddings.

Rephrased copies pass any comparison of n-grams (Yang et al. 2023, "Rethinking Benchmark and Contamination for Language
Models with Rephrased Samples"). Embedding every sentence would cost as much as building the datastore does, so only
those are embedded that have enough of a question's content words: words that few of the questions have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from datastore.cleaning.questions import Question
from datastore.cleaning.settings import RephrasedSettings
from datastore.cleaning.words import WordHasher, split_words
from datastore.sources.rejects import RefusedError

_SENTENCE = re.compile(r"[^.!?。！？\n]+[.!?。！？]*")
_MAX_SENTENCE_WORDS = 64
"""A longer one is cut: what lies near a question is about as short as one."""
_MIN_SENTENCE_WORDS = 3
_COMMON_SHARE = 0.01
_COMMON_LEAST = 20
_MOST_QUESTIONS = 8
"""That a sentence is compared with: those it shares most with."""

Vectors = NDArray[np.float32]
Encode = Callable[[Sequence[str]], Vectors]


class RephrasedFilter:
    """Refuses texts with a sentence whose embedding lies near a question's.

    Args:
        questions: all of them; a question is embedded when a sentence first looks like it, and its vector kept.
        encode: from texts to vectors, float32[texts, dimension]; they need not have length 1.
    """

    def __init__(self, settings: RephrasedSettings, questions: Sequence[Question], encode: Encode) -> None:
        self._settings = settings
        self._questions = questions
        self._encode = encode
        self._vectors: dict[int, Vectors] = {}
        self._hasher = WordHasher()
        words = [np.unique(self._hasher.hash(split_words(question.text))) for question in questions]
        values = np.concatenate([*words, np.empty(0, np.uint64)])
        question = np.repeat(np.arange(len(words)), [len(each) for each in words])
        order = np.argsort(values, kind="stable")
        keys, starts, counts = np.unique(values[order], return_index=True, return_counts=True)
        kept = counts <= max(_COMMON_LEAST, _COMMON_SHARE * len(questions))
        self._asking = {
            int(key): question[order[start : start + count]]
            for key, start, count in zip(keys[kept].tolist(), starts[kept].tolist(), counts[kept].tolist(), strict=True)
        }
        self._sizes = np.bincount(np.concatenate([*self._asking.values(), np.empty(0, np.int64)]), minlength=len(words))

    def check(self, text: str) -> None:
        """Raise RefusedError if a sentence of `text` asks one of the questions."""
        asked = [(sentence, found) for sentence in sentences(text) if len(found := self._candidates(sentence))]
        if not asked:
            return
        vectors = _unit(self._encode([sentence for sentence, _ in asked]))
        for (sentence, candidates), vector in zip(asked, vectors, strict=True):
            cosines = self._embedded(candidates) @ vector
            best = int(cosines.argmax())
            if cosines[best] >= self._settings.min_cosine:
                question = self._questions[int(candidates[best])]
                like = f"cosine {cosines[best]:.2f} of {sentence[:80]!r} with line {question.line} of {question.file}"
                raise RefusedError("contaminated", f"{like}: {question.text[:80]!r}")

    def _candidates(self, sentence: str) -> NDArray[np.int64]:
        """Numbers of the questions that `sentence` has enough words of, those with the largest share first."""
        if self._settings.min_shared_words == 0:
            return np.arange(len(self._questions))
        words = set(self._hasher.hash(split_words(sentence)).tolist())
        asking = [self._asking[word] for word in words if word in self._asking]
        if not asking:
            return np.empty(0, np.int64)
        numbers, counts = np.unique(np.concatenate(asking), return_counts=True)
        shares = counts / self._sizes[numbers]
        enough = shares >= self._settings.min_shared_words
        order = np.argsort(-shares[enough], kind="stable")
        return numbers[enough][order][:_MOST_QUESTIONS]

    def _embedded(self, numbers: NDArray[np.int64]) -> Vectors:
        """float32[numbers, dimension]. Each question is embedded alone, so that its vector depends on nothing else."""
        for number in numbers.tolist():
            if number not in self._vectors:
                self._vectors[number] = _unit(self._encode([self._questions[number].text]))[0]
        return np.stack([self._vectors[number] for number in numbers.tolist()])


def sentences(text: str) -> list[str]:
    """The sentences of `text` of at least 3 words; longer ones than 64 words in parts."""
    found = []
    for match in _SENTENCE.finditer(text):
        words = match[0].split()
        for start in range(0, len(words), _MAX_SENTENCE_WORDS):
            part = words[start : start + _MAX_SENTENCE_WORDS]
            if len(part) >= _MIN_SENTENCE_WORDS:
                found.append(" ".join(part))
    return found


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit
