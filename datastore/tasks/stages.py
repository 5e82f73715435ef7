"""What is done to a task, stage by stage, by whoever does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from datastore.ann.index import Template, load_template
from datastore.ann.spec import IndexSpec
from datastore.cleaning.cleaner import Cleaner
from datastore.cleaning.segment_keys import write_keys
from datastore.devices import DeviceChoice
from datastore.encoders.cache import CachedEncoder
from datastore.encoders.registry import Encoder, open_encoder
from datastore.indexing import write_codes
from datastore.segmenting import Written
from datastore.store.segment import seal_segment
from datastore.tasks.decide import kept_documents
from datastore.tasks.plan import BuildPlan
from datastore.tasks.scan import scan
from datastore.tasks.segments import mark_sealed, sealed_record, task_records, write_task
from datastore.tasks.workspace import TaskFolder, Workspace, read_marker, write_marker


class Stage(StrEnum):
    """What can be done to each task by itself, in this order."""

    SCAN = "scan"
    PASSAGES = "passages"
    INDEX = "index"


@dataclass(frozen=True, slots=True)
class Step:
    """How far a stage of a task is."""

    stage: Stage
    task: int
    documents: int = 0
    passages: int = 0
    tokens: int = 0
    rejected: int = 0
    done: bool = False
    """It is through."""


OnStep = Callable[[Step], None]
_SPEC = TypeAdapter(IndexSpec)


def is_done(workspace: Workspace, stage: Stage, task: int) -> bool:
    folder = workspace.task(task)
    marker = {Stage.SCAN: folder.scanned, Stage.PASSAGES: folder.written, Stage.INDEX: folder.indexed}[stage]
    return read_marker(marker) is not None


def done_step(workspace: Workspace, stage: Stage, task: int) -> Step:
    """What a stage that is done has given."""
    folder = workspace.task(task)
    scanned = read_marker(folder.scanned) or {}
    if stage is Stage.SCAN:
        return Step(stage, task, documents=scanned["documents"], rejected=scanned["rejected"], done=True)
    records = task_records(folder)
    return Step(
        stage,
        task,
        documents=(read_marker(folder.kept) or {})["documents"],
        passages=sum(record.passages for record in records),
        tokens=sum(record.tokens for record in records),
        done=True,
    )


def mark_trained(workspace: Workspace, spec: IndexSpec, template: Path | None) -> None:
    tree: dict[str, Any] = _SPEC.dump_python(spec, mode="json")
    write_marker(workspace.trained, {"spec": tree, "template": template.name if template is not None else None})


def read_trained(workspace: Workspace) -> tuple[IndexSpec, Path | None] | None:
    """The index of this build and the file of its template, once that is trained."""
    marker = read_marker(workspace.trained)
    if marker is None:
        return None
    name = marker["template"]
    return _SPEC.validate_python(marker["spec"]), workspace.store / name if name is not None else None


class Worker:
    """Does stages of tasks in this process; keeps what it has loaded for the next one.

    Args:
        encoder: to encode with; None opens the one that the plan names, when it is needed.
        device: where passages are encoded, and vectors are put into lists.
        cache: a folder of vectors (`datastore.encoders.cache`); None keeps none.
    """

    def __init__(
        self,
        workspace: Workspace,
        plan: BuildPlan,
        device: DeviceChoice,
        *,
        encoder: Encoder | None = None,
        cache: Path | None = None,
    ) -> None:
        self._workspace = workspace
        self._plan = plan
        self._device = device
        self._encoder = encoder
        self._cache = cache
        self._cached: CachedEncoder | None = None
        self._cleaner: Cleaner | None = None
        self._template: tuple[IndexSpec, Template] | None = None

    def run(self, stage: Stage, task: int, on_step: OnStep) -> None:
        """Do a stage of a task, from where it was left; nothing where it is done, or another process is at it."""
        folder = self._workspace.task(task)
        with folder.claim() as mine:
            if not mine or is_done(self._workspace, stage, task):
                return
            if stage is Stage.SCAN:
                self._scan(folder, on_step)
            elif stage is Stage.PASSAGES:
                self._write(folder, on_step)
            else:
                self._index(folder, on_step)
            on_step(done_step(self._workspace, stage, task))

    def _scan(self, folder: TaskFolder, on_step: OnStep) -> None:
        def tell(documents: int, rejected: int) -> None:
            on_step(Step(Stage.SCAN, folder.number, documents, rejected=rejected))

        if self._cleaner is None:
            self._cleaner = Cleaner(self._plan.config.clean, lambda texts: self._open_encoder().encode_queries(texts))
        scan(folder, self._plan.tasks[folder.number], self._plan.config, self._cleaner, tell)

    def _write(self, folder: TaskFolder, on_step: OnStep) -> None:
        def tell(written: Written) -> None:
            on_step(Step(Stage.PASSAGES, folder.number, written.documents, written.passages, written.tokens))

        encoder = self._open_encoder()
        if self._cache is not None and self._cached is None:
            self._cached = CachedEncoder(encoder, self._cache)
        write_task(self._workspace, self._plan, folder.number, self._cached or encoder, tell)

    def _index(self, folder: TaskFolder, on_step: OnStep) -> None:
        spec, template = self._trained()
        compared = self._plan.config.clean.compared
        documents = kept_documents(folder, (read_marker(folder.scanned) or {})["documents"])
        done = Step(Stage.INDEX, folder.number)
        for number, record in enumerate(task_records(folder)):
            if sealed_record(folder, number) is None:
                write_codes(self._workspace.store, spec, template, record)
                if compared:
                    own = documents[done.documents : done.documents + record.documents]
                    write_keys(self._workspace.store, record, compared, folder.signatures, own)
                mark_sealed(folder, number, seal_segment(self._workspace.store, record))
            done = Step(
                Stage.INDEX,
                folder.number,
                done.documents + record.documents,
                done.passages + record.passages,
                done.tokens + record.tokens,
            )
            on_step(done)
        write_marker(folder.indexed, {})

    def close(self) -> None:
        if self._cached is not None:
            self._cached.close()

    def _open_encoder(self) -> Encoder:
        if self._encoder is None:
            self._encoder = open_encoder(self._plan.config.encoder, self._device)
            self._plan.encoder.require_same(self._encoder.fingerprint, "this worker's encoder")
        return self._encoder

    def _trained(self) -> tuple[IndexSpec, Template]:
        if self._template is None:
            trained = read_trained(self._workspace)
            assert trained is not None
            spec, path = trained
            self._template = spec, load_template(spec, path, self._device)
        return self._template
