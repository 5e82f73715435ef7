"""The folder `work/` of a store that is being built: what is done, and what it has given so far.

    work/
      plan.json                 what is built, from what, in which tasks; locked, shared, by each worker process
      build-log.jsonl           what happened when
      decided.json              marker: duplicates are known, the input is good
      trained.json              marker: the template is there
      elements/0-2/claim        locked while the first of two elements of an array job is at work
      tasks/000000/             TASK
        claim                   locked by the process that works at it
        documents.zst           what the scan admitted (`spool`)
        ids                     digests of their ids, in sorted runs (`digests`)
        signatures/             what duplicates are found by, if they are (`datastore.cleaning.signatures`); once they
                                are, the keys that segments are to have
        rejects.jsonl           what the scan refused, and where among the documents
        scanned.json            marker: all of the above is whole
        decisions               one byte a document: 0 keeps it (`decide`); absent if all are kept
        kept.json               how many are kept
        segments/000000.vectors journal of a segment's vectors (`datastore.store.vector_journal`)
        segments/000000.json    marker: the segment is whole
        written.json            marker: all segments of the task are
        segments/000000.sealed.json   marker: the segment has its codes and is on the device
        indexed.json            marker: all segments of the task have

Markers are JSON objects, written last, each replaced at once: what has one is complete. It goes when the datastore has
been published.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datastore.store.durable import replace_file
from datastore.tasks.log import LOG_NAME

WORK_FOLDER = "work"


@dataclass(frozen=True, slots=True)
class TaskFolder:
    """Where one task keeps its files."""

    path: Path

    @property
    def number(self) -> int:
        return int(self.path.name)

    @property
    def documents(self) -> Path:
        return self.path / "documents.zst"

    @property
    def ids(self) -> Path:
        return self.path / "ids"

    @property
    def signatures(self) -> Path:
        return self.path / "signatures"

    @property
    def rejects(self) -> Path:
        return self.path / "rejects.jsonl"

    @property
    def reject_places(self) -> Path:
        return self.path / "reject-places"

    @property
    def scanned(self) -> Path:
        return self.path / "scanned.json"

    @property
    def decisions(self) -> Path:
        return self.path / "decisions"

    @property
    def kept(self) -> Path:
        return self.path / "kept.json"

    @property
    def written(self) -> Path:
        return self.path / "written.json"

    @property
    def indexed(self) -> Path:
        return self.path / "indexed.json"

    @property
    def segments(self) -> Path:
        return self.path / "segments"

    @contextlib.contextmanager
    def claim(self) -> Iterator[bool]:
        """Hold the task, if nobody does: whether that is so. The kernel lets go of it when its holder dies."""
        with _claim(self.path) as free:
            yield free


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder of a store that is being built, and in it `work/`."""

    store: Path

    @property
    def path(self) -> Path:
        return self.store / WORK_FOLDER

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def log(self) -> Path:
        return self.path / LOG_NAME

    @property
    def decided(self) -> Path:
        return self.path / "decided.json"

    @property
    def duplicates(self) -> Path:
        """Where duplicates are joined, while they are looked for."""
        return self.path / "duplicates"

    @property
    def trained(self) -> Path:
        return self.path / "trained.json"

    def task(self, number: int) -> TaskFolder:
        return TaskFolder(self.path / "tasks" / f"{number:06d}")

    def claim(self) -> contextlib.AbstractContextManager[bool]:
        """As that of a task, for what is done once for all of them."""
        return _claim(self.path)

    def join(self) -> None:
        """Be one of the processes that work by the plan, until this one ends; nothing where there is no plan."""
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(self.plan, os.O_RDONLY | os.O_CLOEXEC)  # the kernel closes it
            fcntl.flock(descriptor, fcntl.LOCK_SH)

    def has_workers(self) -> bool:
        """Whether a process has joined that has not ended."""
        try:
            descriptor = os.open(self.plan, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def element(self, number: int, of: int) -> contextlib.AbstractContextManager[bool]:
        """Held while that element of an array job is at work, by each process that was started as it."""
        return _claim(self._element(number, of), fcntl.LOCK_SH)

    def at_work(self, number: int, of: int) -> bool:
        """Whether a process holds that element."""
        with _claim(self._element(number, of)) as free:
            return not free

    def _element(self, number: int, of: int) -> Path:
        return self.path / "elements" / f"{number}-{of}"

    def remove(self) -> None:
        if self.path.exists():
            shutil.rmtree(self.path)


@contextlib.contextmanager
def _claim(folder: Path, kind: int = fcntl.LOCK_EX | fcntl.LOCK_NB) -> Iterator[bool]:
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "claim", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, kind)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


def write_marker(path: Path, content: dict[str, Any]) -> None:
    """Put a JSON object at `path`, at once.

    What it stands for must be on the device before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(content, ensure_ascii=True).encode() + b"\n")


def read_marker(path: Path) -> dict[str, Any] | None:
    """What `write_marker` put there; None where nothing is, or nothing whole."""
    try:
        content = json.loads(path.read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None
