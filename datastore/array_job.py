"""A build by many processes that know nothing of one another: each does its share of the tasks, one publishes.

Element I of N does the tasks whose number leaves I when divided by N. What all tasks must come to before any can go on
(which ids came before; the training of the index) is done by the first that finds it can be; so an element goes on as
long as others are at work, and otherwise ends with what it could do. `publish_build` does whatever is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from datastore.ann.index import check_device
from datastore.build import begin, complete, decided_input, ensure_trained, prepare, refuse_occupied
from datastore.config import BuildConfig
from datastore.devices import AUTO, DeviceChoice
from datastore.encoders.registry import Encoder
from datastore.errors import AlreadyExists, FailedPrecondition, NotFound, Unavailable
from datastore.store.lock import write_lock
from datastore.store.manifest import MANIFEST_NAME, Manifest
from datastore.store.refusals import storage_errors
from datastore.tasks.decide import read_decided
from datastore.tasks.executors import HERE, Execution
from datastore.tasks.log import BuildLog
from datastore.tasks.plan import BuildPlan, difference, load_plan
from datastore.tasks.progress import OnProgress, Tally
from datastore.tasks.stages import Stage, Worker, is_done, read_trained
from datastore.tasks.workspace import Workspace

_ANOTHER_LOOK_S = 0.5
_JOIN_S = 60.0
"""As long at most it takes another element to begin the build."""

OnNote = Callable[[str], None]


def build_share(
    inputs: Sequence[str],
    store: Path,
    config: BuildConfig,
    share: tuple[int, int],
    on_progress: OnProgress = lambda _: None,
    *,
    encoder: Encoder | None = None,
    cache: Path | None = None,
    device: DeviceChoice = AUTO,
    on_note: OnNote = lambda _: None,
) -> Stage | None:
    """Do one share of a build; return the stage that other shares must come to before this one can go on.

    None says that all is done but to publish.

    Args:
        share: (I, N), `0 <= I < N`.
        cache: a folder that keeps vectors from build to build.

    Raises what `datastore.build.build` raises.
    """
    with storage_errors(store):
        refuse_occupied(store)
    encoder, wanted = prepare(inputs, store, config, encoder, device)
    workspace = Workspace(store)
    with storage_errors(store), _joined(workspace, wanted, on_note) as plan, workspace.element(*share):
        worker = Worker(workspace, plan, device, encoder=encoder, cache=cache)
        tally = Tally(len(plan.tasks), on_progress, BuildLog(workspace.log))
        for stage in Stage:
            if stage is Stage.PASSAGES:
                _once(workspace, lambda: read_decided(workspace), lambda: decided_input(workspace, plan))
                decided_input(workspace, plan)
            if stage is Stage.INDEX:
                _once(workspace, lambda: read_trained(workspace), lambda: ensure_trained(workspace, plan, device))
            tally.begin(stage, None)
            if not _do(workspace, stage, share, worker, tally):
                return stage
            tally.end()
    return None


def publish_build(
    store: Path,
    on_progress: OnProgress = lambda _: None,
    *,
    device: DeviceChoice = AUTO,
    execution: Execution = HERE,
) -> Manifest:
    """Do what is left of the build that was begun in `store`, and publish it.

    Raises:
        NotFound: none was begun there.
        AlreadyExists: it has been published.
        FailedPrecondition: its input is named relative to another folder than this one.
        Unavailable: some of its shares are being worked on.
        And what `datastore.build.build` raises.
    """
    check_device(device)
    workspace = Workspace(store)
    with storage_errors(store):
        plan = load_plan(workspace)
        if plan is None and (store / MANIFEST_NAME).exists():
            raise AlreadyExists(f"{store} has been published", mend=f"see what it holds: pergamon info {store}")
        if plan is None:
            raise NotFound(
                f"{store} holds no build to publish",
                mend="begin one: pergamon build --input PATH --store STORE --task 0/2",
                field="store",
            )
        unread = not all(is_done(workspace, Stage.SCAN, number) for number in range(len(plan.tasks)))
        if unread and Path(plan.folder) != Path.cwd():
            raise FailedPrecondition(
                f"the input of {store} was named as seen from {plan.folder}, and some of it has not been read",
                mend=f"run this in {plan.folder}",
            )
        with write_lock(store):
            refuse_occupied(store)
            return complete(workspace, plan, execution, encoder=None, device=device, on_progress=on_progress)


def _do(workspace: Workspace, stage: Stage, share: tuple[int, int], worker: Worker, tally: Tally) -> bool:
    """Do a stage of a share, and wait for the others as long as they are at work: whether it is done for all."""
    element, of = share

    def still(missing: Iterable[int]) -> list[int]:
        return [number for number in missing if not is_done(workspace, stage, number)]

    missing = still(range(tally.tasks))
    while missing:
        for number in missing:
            if number % of == element:
                worker.run(stage, number, tally.step)
        missing = still(missing)
        if missing and not any(other == element or workspace.at_work(other, of) for other in {n % of for n in missing}):
            return not still(missing)  # those that have ended since may have done theirs
        time.sleep(_ANOTHER_LOOK_S if missing else 0)
    return True


def _once(workspace: Workspace, result: Callable[[], object], work: Callable[[], object]) -> None:
    """Have something done that is done once for all tasks, here or by another process."""
    while result() is None:
        with workspace.claim() as mine:
            if mine and result() is None:
                work()
        time.sleep(0 if mine else _ANOTHER_LOOK_S)


@contextmanager
def _joined(workspace: Workspace, wanted: BuildPlan, on_note: OnNote) -> Iterator[BuildPlan]:
    """The plan of the build, begun here or by another element of the same job; nothing else writes to the store."""
    deadline = time.monotonic() + _JOIN_S
    with ExitStack() as held:
        while (plan := _join(workspace, wanted, on_note, held)) is None:
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"another process is writing to {workspace.store}",
                    mend="wait until it has finished, then run this again",
                )
            time.sleep(_ANOTHER_LOOK_S)
        yield plan


def _join(workspace: Workspace, wanted: BuildPlan, on_note: OnNote, held: ExitStack) -> BuildPlan | None:
    """The plan, its store's lock shared until `held` closes; None where that cannot be had now."""
    with suppress(Unavailable), write_lock(workspace.store):  # nobody is at work: begin, or go on with what was begun
        refuse_occupied(workspace.store)
        begin(workspace, wanted, on_note)
    try:
        held.enter_context(write_lock(workspace.store, shared=True))
    except Unavailable:
        return None
    plan = load_plan(workspace)
    if plan is None:
        held.close()
        return None
    if why := difference(plan, wanted):
        raise FailedPrecondition(
            f"another build is being done in {workspace.store}: {why}",
            mend="give every element of an array job the same input and settings",
        )
    return plan
