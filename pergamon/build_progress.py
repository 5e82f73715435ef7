"""How a build shows how far it is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.progress import TextColumn

from datastore.tasks.progress import BuildProgress, OnProgress
from pergamon.output import ERRORS, progress_bar

LINE_EVERY_S = 10.0
"""Where standard error is no terminal; a build that takes less time says nothing on the way."""
_IN_DOCUMENTS = frozenset({"scan", "passages"})
"""Stages whose totals are in documents; others' are in passages."""
_WINDOW_S = 60.0
_SAMPLE_S = 1.0


class Pace:
    """The rate of the stage that a build is in, over the last minute, and the time that is left of it.

    What was done before this run is not counted: it is told all at once.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage = ""
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, step: BuildProgress) -> tuple[str, str]:
        """Rate and time left, in words; empty where they are not known."""
        now, done = self._clock(), _done(step)
        if step.stage != self._stage:
            self._stage = step.stage
            self._samples.clear()
        if self._samples and now - self._samples[-1][0] < _SAMPLE_S:
            self._samples[-1] = self._samples[-1][0], done
        else:
            self._samples.append((now, done))
        while now - self._samples[0][0] > _WINDOW_S and len(self._samples) > 2:
            self._samples.popleft()
        began, before = self._samples[0]
        if done <= before or now <= began:
            return "", ""
        rate = (done - before) / (now - began)
        left = f"{timedelta(seconds=round((step.total - done) / rate))} left" if step.total is not None else ""
        return f"{rate:,.0f}/s", left


def _done(step: BuildProgress) -> int:
    """In what `BuildProgress.total` counts."""
    return step.documents if step.stage in _IN_DOCUMENTS else step.passages


def describe(step: BuildProgress) -> str:
    """A step without its rate, in words."""
    total = f" of {step.total:,}" if step.total is not None else ""
    documents, passages = f"{step.documents:,}", f"{step.passages:,}"
    if step.stage in _IN_DOCUMENTS:
        documents += total
    else:
        passages += total
    tokens = f", {step.tokens:,} tokens" if step.tokens else ""
    return f"{_named(step)}: {documents} documents, {passages} passages{tokens}, {step.rejected:,} rejected"


def _named(step: BuildProgress) -> str:
    return step.stage + (f", {step.tasks_done} of {step.tasks} tasks" if step.tasks > 1 else "")


@contextmanager
def shown_progress() -> Iterator[OnProgress]:
    """What a build is to be given, to show its progress on standard error while the `with` block lasts."""
    if not ERRORS.is_terminal:
        yield _lines()
        return
    pace = Pace()
    with progress_bar(TextColumn("{task.fields[rate]}"), TextColumn("{task.fields[left]}")) as progress:
        bar = progress.add_task("starting", total=None, rate="", left="")
        stage = ""

        def show(step: BuildProgress) -> None:
            nonlocal stage
            if step.stage != stage:
                stage = step.stage
                progress.reset(bar)
            rate, left = pace.add(step)
            tokens = f"{step.passages:,} passages, {step.tokens:,} tokens, " if step.tokens else ""
            unit = "documents" if stage in _IN_DOCUMENTS else "passages"
            note = f"{_named(step)}: {tokens}{step.rejected:,} rejected; {unit}"
            progress.update(bar, description=note, completed=_done(step), total=step.total, rate=rate, left=left)

        yield show


def _lines() -> OnProgress:
    pace = Pace()
    told = time.monotonic()

    def show(step: BuildProgress) -> None:
        nonlocal told
        rate, left = pace.add(step)
        if time.monotonic() - told < LINE_EVERY_S:
            return
        told = time.monotonic()
        ERRORS.print(
            ", ".join(filter(None, (describe(step), rate, left))), markup=False, highlight=False, soft_wrap=True
        )

    return show
