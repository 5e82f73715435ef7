"""A task's documents to its segments, and what is noted of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from datastore.config import SegmentConfig, segment_limit
from datastore.encoders.registry import Encoder
from datastore.segmenting import Written, segment_name, write_segments
from datastore.store.durable import fsync_tree
from datastore.store.manifest import SegmentRecord
from datastore.store.segment import SEGMENTS_FOLDER
from datastore.tasks.decide import read_decisions
from datastore.tasks.plan import BuildPlan
from datastore.tasks.spool import read_spool
from datastore.tasks.workspace import TaskFolder, Workspace, read_marker, write_marker

_RECORD = TypeAdapter(SegmentRecord)
_MANY = 1 << 30


def write_task(
    workspace: Workspace, plan: BuildPlan, number: int, encoder: Encoder, on_progress: Callable[[Written], None]
) -> None:
    """Write the segments of a task from where it was left, and mark it as written."""
    task = workspace.task(number)
    alone = len(plan.tasks) == 1
    documents = (found.document for found in read_spool(task.documents, read_decisions(task)))
    records = write_segments(
        documents,
        workspace.store,
        plan.config,
        encoder,
        name=lambda segment: segment_name(1, segment, None if alone else number),
        limit=lambda passages: task_segment_limit(plan.config.segment, passages, alone=alone),
        on_progress=on_progress,
        log=TaskLog(task, workspace.store),
    )
    write_marker(task.written, {"segments": len(records)})


def task_segment_limit(config: SegmentConfig, passages_so_far: int, *, alone: bool) -> int:
    """Passages in the next segment of a task at most.

    The only task of a build grows them with the datastore. One of many does not know how much lies before it, and is a
    small part of the whole: it has but one segment, up to the largest size.
    """
    return segment_limit(config, passages_so_far if alone else _MANY)


@dataclass(frozen=True, slots=True)
class TaskLog:
    """Implements `datastore.segmenting.SegmentLog` in the folder of a task."""

    task: TaskFolder
    store: Path

    def finished(self) -> list[tuple[SegmentRecord, int]]:
        return _finished(self.task)

    def finish(self, number: int, record: SegmentRecord, documents: int) -> None:
        fsync_tree(self.store / SEGMENTS_FOLDER / record.segment_id)
        marker = {"record": _RECORD.dump_python(record, mode="json"), "documents": documents}
        write_marker(_marker(self.task, number), marker)
        self.journal(number).unlink(missing_ok=True)

    def journal(self, number: int) -> Path:
        self.task.segments.mkdir(parents=True, exist_ok=True)
        return self.task.segments / f"{number:06d}.vectors"


def _marker(task: TaskFolder, number: int) -> Path:
    return task.segments / f"{number:06d}.json"


def _finished(task: TaskFolder) -> list[tuple[SegmentRecord, int]]:
    found: list[tuple[SegmentRecord, int]] = []
    while (marker := read_marker(_marker(task, len(found)))) is not None:
        found.append((_RECORD.validate_python(marker["record"]), int(marker["documents"])))
    return found


def task_records(task: TaskFolder) -> list[SegmentRecord]:
    """The finished segments of a task, their files not recorded yet."""
    return [record for record, _ in _finished(task)]


def sealed_record(task: TaskFolder, number: int) -> SegmentRecord | None:
    """A segment with its files, once it has its codes and is on the device."""
    marker = read_marker(_sealed(task, number))
    return None if marker is None else _RECORD.validate_python(marker)


def sealed_records(task: TaskFolder) -> list[SegmentRecord]:
    """All segments of a task that is indexed."""
    sealed = [sealed_record(task, number) for number in range(len(task_records(task)))]
    return [record for record in sealed if record is not None]


def mark_sealed(task: TaskFolder, number: int, record: SegmentRecord) -> None:
    write_marker(_sealed(task, number), _RECORD.dump_python(record, mode="json"))


def _sealed(task: TaskFolder, number: int) -> Path:
    return task.segments / f"{number:06d}.sealed.json"
