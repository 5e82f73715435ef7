"""How far a build is, over all its tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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


class Tally:
    """Adds up what tasks tell, and tells it on."""

    def __init__(self, tasks: int, on_progress: OnProgress) -> None:
        self.tasks = tasks
        self.documents = 0
        """That are kept, once that is known."""
        self.passages = 0
        self.rejected = 0
        self._on_progress = on_progress
        self._steps: dict[int, Step] = {}
        self._done: set[int] = set()
        self._stage = ""
        self._total: int | None = None

    def begin(self, stage: str, total: int | None) -> None:
        self._stage, self._total = stage, total
        self._steps.clear()
        self._done.clear()

    def step(self, step: Step) -> None:
        """How far one task is in the stage."""
        self._steps[step.task] = step
        self._tell()

    def done(self, step: Step) -> None:
        """A task is through."""
        self._done.add(step.task)
        self.step(step)

    def tell(self, stage: str, passages: int) -> None:
        """Of a stage that is not done in tasks."""
        self._on_progress(
            BuildProgress(stage, self.documents, passages, self.rejected, total=self.passages, tasks=self.tasks)
        )

    def _tell(self) -> None:
        steps = self._steps.values()
        self._on_progress(
            BuildProgress(
                self._stage,
                sum(step.documents for step in steps),
                sum(step.passages for step in steps),
                self.rejected + sum(step.rejected for step in steps),
                sum(step.tokens for step in steps),
                self._total,
                len(self._done),
                self.tasks,
            )
        )
