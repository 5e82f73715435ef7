"""How far a build is, over all its tasks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from datastore.tasks.log import BuildLog
from datastore.tasks.stages import Step


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """Where a build is.

    Stages are `scan`, `passages` (chunked, encoded, written), `index`, where recall is measured `truth` and `sweep`,
    and `publish`. In each, counts go up from 0 and are over all tasks.
    """

    stage: str
    documents: int
    passages: int
    rejected: int
    tokens: int = 0
    total: int | None = None
    """Documents that the stage `passages` ends with, or passages that those after it do; None where it is not known."""
    tasks_done: int = 0
    tasks: int = 1


OnProgress = Callable[[BuildProgress], None]


_LOG_EVERY_S = 5.0


class Tally:
    """Adds up what tasks tell, and tells it on; stages and, every few seconds, how far they are go into the log."""

    def __init__(self, tasks: int, on_progress: OnProgress, log: BuildLog | None = None) -> None:
        self.tasks = tasks
        self.documents = 0
        """That are kept, once that is known."""
        self.passages = 0
        self.rejected = 0
        self._on_progress = on_progress
        self._log = log
        self._steps: dict[int, Step] = {}
        self._done: set[int] = set()
        self._stage = ""
        self._total: int | None = None
        self._began = self._logged = time.monotonic()

    def begin(self, stage: str, total: int | None) -> None:
        self._stage, self._total = stage, total
        self._steps.clear()
        self._done.clear()
        self._began = self._logged = time.monotonic()

    def step(self, step: Step) -> None:
        """How far one task is in the stage."""
        self._steps[step.task] = step
        if step.done:
            self._done.add(step.task)
        self._tell()

    def end(self) -> None:
        """The stage is through, in all tasks."""
        self._note("stage done")

    def tell(self, stage: str, passages: int) -> None:
        """Of a stage that is not done in tasks."""
        self._on_progress(BuildProgress(stage, self.documents, passages, self.rejected, total=self.passages))

    def _sum(self) -> BuildProgress:
        steps = self._steps.values()
        return BuildProgress(
            self._stage,
            sum(step.documents for step in steps),
            sum(step.passages for step in steps),
            self.rejected + sum(step.rejected for step in steps),
            sum(step.tokens for step in steps),
            self._total,
            len(self._done),
            self.tasks,
        )

    def _tell(self) -> None:
        self._on_progress(self._sum())
        if time.monotonic() - self._logged >= _LOG_EVERY_S:
            self._note("progress")

    def _note(self, event: str) -> None:
        self._logged = time.monotonic()
        if self._log is not None:
            values = asdict(self._sum())
            self._log.add(event, **values, seconds=round(self._logged - self._began, 3))
