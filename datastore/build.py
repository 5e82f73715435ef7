"""Building a datastore: documents to passages to segments, then the index over them, then the manifest."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from datastore.ann.index import check_device
from datastore.ann.operating_curve import OperatingCurve
from datastore.ann.spec import TEMPLATE_NAMES, check_index, choose_index
from datastore.bm25.analysis import check_analyzer
from datastore.cleaning.cleaner import Cleaner
from datastore.config import BuildConfig
from datastore.devices import AUTO, DeviceChoice
from datastore.encoders.registry import Encoder, open_encoder
from datastore.errors import AlreadyExists, InvalidArgument, Unavailable
from datastore.indexing import write_template
from datastore.sources.rejects import CLEANING_REASONS, Rejects, mend_input
from datastore.store.checksums import FileRecord, record_file
from datastore.store.durable import fsync_path, replace_file
from datastore.store.lock import LOCK_NAME, write_lock
from datastore.store.manifest import (
    GENERATIONS_FOLDER,
    MANIFEST_NAME,
    Manifest,
    RejectSummary,
    SegmentRecord,
    publish,
    utc_now,
)
from datastore.store.refusals import refuse_url, storage_errors
from datastore.store.segment import SEGMENTS_FOLDER
from datastore.tasks.decide import Decided, decide, read_decided
from datastore.tasks.executors import HERE, Execution, Executor, open_executor
from datastore.tasks.log import LOG_NAME, BuildLog
from datastore.tasks.plan import BuildPlan, cut, difference, load_plan, make_plan, save_plan
from datastore.tasks.progress import OnProgress, Tally
from datastore.tasks.segments import sealed_records, task_records
from datastore.tasks.stages import Stage, done_step, is_done, mark_trained, read_trained
from datastore.tasks.workspace import WORK_FOLDER, Workspace
from datastore.tune import TuneOptions, measure

REJECTS_NAME = "rejects-1.jsonl"
_BUILD_FILES = (
    GENERATIONS_FOLDER,  # first: without notes of a build, manifests there are a datastore's
    SEGMENTS_FOLDER,
    *TEMPLATE_NAMES,
    REJECTS_NAME,
    LOG_NAME,
    LOG_NAME + ".tmp",
    WORK_FOLDER,
    MANIFEST_NAME + ".tmp",
)

OnNote = Callable[[str], None]
_ANOTHER_LOOK_S = 0.2
_WORKERS_END_S = 60.0


def build(
    inputs: Sequence[str],
    store: Path,
    config: BuildConfig,
    on_progress: OnProgress = lambda _: None,
    encoder: Encoder | None = None,
    *,
    device: DeviceChoice = AUTO,
    execution: Execution = HERE,
    on_note: OnNote = lambda _: None,
) -> Manifest:
    """Build a new datastore from `inputs` in the folder `store`; return its first generation.

    Its vectors come from the encoder that `config` names, or from the one that is given.

    Until the last step the folder has no manifest, so it holds no datastore. What a build leaves that was killed, or
    that failed, the next one of the same input and settings goes on with; any other one sweeps it away.

    Args:
        device: where passages are encoded, the index is trained and vectors are put into its lists.
        execution: who does the tasks that the build is cut into.
        on_note: told, in a sentence, what becomes of what an earlier build has left.

    Raises:
        FailedPrecondition: a device that was asked for is not there.
        AlreadyExists: the folder holds a datastore, or files that are not ours.
        InvalidArgument: no documents, too many rejects, or a setting that does not fit.
        ResourceExhausted: the disk is full, or a GPU's memory.
        Unavailable: another process is writing to the folder.
    """
    with storage_errors(store):
        refuse_occupied(store)
    encoder, plan = prepare(inputs, store, config, encoder, device)
    with storage_errors(store), write_lock(store):
        refuse_occupied(store)
        workspace = Workspace(store)
        plan = begin(workspace, plan, on_note)
        return complete(workspace, plan, execution, encoder=encoder, device=device, on_progress=on_progress)


def prepare(
    inputs: Sequence[str], store: Path, config: BuildConfig, encoder: Encoder | None, device: DeviceChoice
) -> tuple[Encoder, BuildPlan]:
    """Check all that can be before anything is made."""
    refuse_url(store, "store")
    _refuse_store_in_input(inputs, store)
    check_analyzer(config.bm25.analyzer)
    check_device(device)
    encoder = encoder or open_encoder(config.encoder, device)
    Cleaner(config.clean, encoder.encode_queries)  # so that what is wrong with its files is said now
    check_index(config.index, encoder.fingerprint.dimension)
    return encoder, make_plan(inputs, config, encoder.fingerprint)


def begin(workspace: Workspace, wanted: BuildPlan, on_note: OnNote) -> BuildPlan:
    """The plan of the build that was begun here, if it is the one that is wanted; otherwise begin that, afresh."""
    begun = load_plan(workspace)
    why = difference(begun, wanted) if begun is not None else ""
    if begun is not None and not why:
        on_note(f"going on with the build that was begun in {workspace.store}")
        return begun
    if why:
        on_note(f"{workspace.store} holds an unfinished build, which is removed: {why}")
    sweep(workspace.store)
    plan = cut(wanted)
    save_plan(workspace, plan)
    return plan


def complete(
    workspace: Workspace,
    plan: BuildPlan,
    execution: Execution,
    *,
    encoder: Encoder | None,
    device: DeviceChoice,
    on_progress: OnProgress,
) -> Manifest:
    """Do all of a build that is not done yet, and publish it."""
    try:
        with open_executor(execution, workspace, plan, encoder, device) as executor:
            return _complete(workspace, plan, executor, device, on_progress)
    except InvalidArgument:  # of this input and these settings nothing can be made
        sweep(workspace.store, keep=workspace.store / REJECTS_NAME)
        raise


def _complete(
    workspace: Workspace, plan: BuildPlan, executor: Executor, device: DeviceChoice, on_progress: OnProgress
) -> Manifest:
    log = BuildLog(workspace.log)
    log.add("begin", writer=plan.writer, inputs=list(plan.inputs), bytes=plan.bytes, tasks=len(plan.tasks))
    tally = Tally(len(plan.tasks), on_progress, log)
    _run(workspace, Stage.SCAN, executor, tally, None)
    decided = decided_input(workspace, plan)
    tally.documents, tally.rejected = decided.documents, decided.rejected
    _run(workspace, Stage.PASSAGES, executor, tally, decided.documents)
    tally.passages = sum(record.passages for record in written_segments(workspace, plan))
    tally.begin("train", None)
    tally.tell("index", 0)
    ensure_trained(workspace, plan, device)
    tally.end()
    _run(workspace, Stage.INDEX, executor, tally, tally.passages)
    return _publish(workspace, plan, decided, tally, log)


def decided_input(workspace: Workspace, plan: BuildPlan) -> Decided:
    """What becomes of the input, decided now if it has not been; every task must have been scanned.

    Raises:
        InvalidArgument: it has no document, or too many rejects.
    """
    if read_decided(workspace) is None:
        rejects = Rejects(workspace.store / REJECTS_NAME)
        decide(workspace, len(plan.tasks), rejects, plan.config.clean.compared)
    decided = read_decided(workspace)
    assert decided is not None
    _check_input(workspace, plan, decided)
    return decided


def written_segments(workspace: Workspace, plan: BuildPlan) -> list[SegmentRecord]:
    """The segments of all tasks, without their files."""
    return [record for number in range(len(plan.tasks)) for record in task_records(workspace.task(number))]


def ensure_trained(workspace: Workspace, plan: BuildPlan, device: DeviceChoice) -> None:
    """Choose and train the index, if that has not been done; every task must have been written."""
    if read_trained(workspace) is None:
        records = written_segments(workspace, plan)
        passages = sum(record.passages for record in records)
        spec = choose_index(plan.config.index, passages, plan.encoder.dimension)
        mark_trained(workspace, spec, write_template(workspace.store, spec, records, device))


def _run(workspace: Workspace, stage: Stage, executor: Executor, tally: Tally, total: int | None) -> None:
    """A stage of all tasks that have not done it."""
    tally.begin(stage, total)
    missing = []
    for number in range(tally.tasks):
        if is_done(workspace, stage, number):
            tally.step(done_step(workspace, stage, number))
        else:
            missing.append(number)
    while missing:
        executor.run(stage, missing, tally.step)
        missing = [number for number in missing if not is_done(workspace, stage, number)]
        if missing:  # a worker of a build that was killed is at them, for the moment that it takes to end
            time.sleep(_ANOTHER_LOOK_S)
    tally.end()


def _publish(workspace: Workspace, plan: BuildPlan, decided: Decided, tally: Tally, log: BuildLog) -> Manifest:
    """Commit the first generation, whose segments are all on the device, and remove the notes of its making."""
    store = workspace.store
    trained = read_trained(workspace)
    assert trained is not None
    spec, template = trained
    segments = [record for number in range(len(plan.tasks)) for record in sealed_records(workspace.task(number))]
    manifest = Manifest(
        datastore_id=plan.datastore_id,
        generation=1,
        created=utc_now(),
        writer=plan.writer,
        config=plan.config,
        encoder=plan.encoder,
        index=spec,
        template=record_file(store, template) if template else None,
        segments=tuple(segments),
        rejects=_summarize(store, decided),
        required_features=spec.required_features,
        masked=decided.masked,
    )
    if spec.kind != "flat" and plan.config.index.tune_queries:
        manifest = replace(manifest, operating_curve=_measure(store, manifest, tally))
    tally.tell("publish", tally.passages)
    log.add("publish", documents=manifest.documents, passages=manifest.passages, segments=len(segments))
    manifest = replace(manifest, log=_keep_log(workspace))
    fsync_path(store / SEGMENTS_FOLDER)
    fsync_path(store)
    fsync_path(store.absolute().parent)
    publish(store, manifest)
    workspace.remove()
    return manifest


def _keep_log(workspace: Workspace) -> FileRecord:
    """Put the log of the build where the manifest can name it."""
    kept = workspace.store / LOG_NAME
    replace_file(kept, workspace.log.read_bytes())
    return record_file(workspace.store, kept)


def _check_input(workspace: Workspace, plan: BuildPlan, decided: Decided) -> None:
    """Refuse an input that gives no documents, or too many rejects; what cleaning leaves out is no fault of it."""
    faults = {reason: count for reason, count in decided.by_reason.items() if reason not in CLEANING_REASONS}
    faulty, rejected, seen = sum(faults.values()), decided.rejected, decided.documents + decided.rejected
    path = workspace.store / REJECTS_NAME
    if decided.documents and faulty <= plan.config.input.max_rejected_share * seen:
        return
    if decided.documents == 0:
        raise InvalidArgument(
            f"no document in {', '.join(plan.inputs)}"
            + (f": all {rejected} records were rejected ({_count(decided.by_reason)})" if rejected else ""),
            mend=mend_input(decided.by_reason, "give input with at least one document that has text"),
            field="input",
        )
    raise InvalidArgument(
        f"{faulty} of {seen} input records were rejected ({_count(faults)}), more than the share allowed, "
        f"{plan.config.input.max_rejected_share:g}",
        mend=f"see {path}, then mend the input or raise input.max_rejected_share",
        field="input",
    )


def _count(by_reason: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in by_reason.items())


def _measure(store: Path, manifest: Manifest, tally: Tally) -> OperatingCurve:
    """What recall costs, so that a search may ask for one from the first day."""

    def tell(stage: str, done: int, total: int) -> None:
        tally.tell(stage, manifest.passages * done // total)

    options = TuneOptions(manifest.config.index.tune_queries, seed=manifest.config.index.seed)
    return measure(store, manifest, options, on_progress=tell)


def _summarize(store: Path, decided: Decided) -> RejectSummary:
    if decided.rejected == 0:
        return RejectSummary(0, {}, None)
    fsync_path(store / REJECTS_NAME)
    return RejectSummary(decided.rejected, decided.by_reason, record_file(store, store / REJECTS_NAME))


def refuse_occupied(store: Path) -> None:
    """Refuse a folder with a datastore or with somebody's files; what an interrupted build left may be there.

    That has its notes until it has published: where there are none, but a manifest's copy, the manifest was lost.
    """
    if (store / MANIFEST_NAME).exists():
        raise AlreadyExists(
            f"{store} holds a datastore", mend="build into another folder, or remove this one first", field="store"
        )
    if not (store / WORK_FOLDER).exists() and any((store / GENERATIONS_FOLDER).glob("*.json")):
        raise AlreadyExists(
            f"{store} holds a datastore that has lost its {MANIFEST_NAME}",
            mend=f"bring it back: pergamon repair {store}; or build into another folder",
            field="store",
        )
    found = store.iterdir() if store.exists() else ()
    foreign = sorted(path.name for path in found if path.name not in {LOCK_NAME, *_BUILD_FILES})
    if foreign:
        raise AlreadyExists(
            f"{store} is not empty and holds no datastore: it has {foreign[0]!r}",
            mend="build into a new or empty folder",
            field="store",
        )


def _refuse_store_in_input(inputs: Sequence[str], store: Path) -> None:
    """A build that read what it writes could go on for ever."""
    for value in inputs:
        if Path(value).is_dir() and store.resolve().is_relative_to(Path(value).resolve()):
            raise InvalidArgument(
                f"the store {store} lies in the input folder {value}",
                mend="build into a folder outside of the input",
                field="store",
            )


def sweep(store: Path, keep: Path | None = None) -> None:
    """Remove what a build makes; only for a folder without a manifest, by the holder of its lock.

    Raises:
        Unavailable: workers of a build that was killed do not end.
    """
    _await_workers(Workspace(store))
    for name in _BUILD_FILES:
        path = store / name
        if path == keep:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _await_workers(workspace: Workspace) -> None:
    """Let workers of a build that was killed end, as they do when they notice: they would write into the next one."""
    deadline = time.monotonic() + _WORKERS_END_S
    while workspace.has_workers():
        if time.monotonic() > deadline:
            raise Unavailable(
                f"workers of an earlier build are still writing to {workspace.store}",
                mend="end them, or wait until they have ended, then run this again",
            )
        time.sleep(_ANOTHER_LOOK_S)
