"""What a build will do: its input cut into tasks, by the input alone."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from datastore.config import BuildConfig
from datastore.encoders.fingerprint import EncoderFingerprint
from datastore.sources.found import Piece
from datastore.sources.inputs import cut_inputs
from datastore.store.manifest import our_name
from datastore.tasks.workspace import Workspace, read_marker, write_marker

WANTED_TASKS = 64
"""Enough to keep many workers busy to the end, few enough that each makes segments of some size."""
SMALLEST_TASK_BYTES = 4 << 20
LARGEST_TASK_BYTES = 256 << 20
_NO_CUT = 1 << 62


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file of the input, as it was when the build began."""

    location: str
    size: int
    modified_ns: int
    """0 where it is not known."""


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """Plain data, in `work/plan.json`: all that a worker has to know."""

    writer: str
    """Program and version: another may read, chunk or encode otherwise."""
    inputs: tuple[str, ...]
    files: tuple[InputFile, ...]
    cleaning_files: tuple[InputFile, ...]
    """What documents are held against: questions, a classifier."""
    config: BuildConfig
    encoder: EncoderFingerprint
    folder: str
    """That relative paths begin in."""
    datastore_id: str
    tasks: tuple[tuple[Piece, ...], ...]

    @property
    def bytes(self) -> int:
        """Of the input."""
        return sum(file.size for file in self.files)


_ADAPTER = TypeAdapter(BuildPlan)
_RUN_FIELDS = {"datastore_id", "tasks"}
"""Of a plan: what follows from the rest, or is new in each build."""


def make_plan(inputs: Sequence[str], config: BuildConfig, encoder: EncoderFingerprint) -> BuildPlan:
    """The plan of a build, its tasks not cut yet (`cut`).

    Raises what `cut_inputs` raises.
    """
    whole = cut_inputs(inputs, _NO_CUT)
    return BuildPlan(
        writer=our_name(),
        inputs=tuple(inputs),
        files=tuple(InputFile(piece.location, piece.size, _modified_ns(piece.location)) for piece in whole),
        cleaning_files=tuple(_file(path) for path in config.clean.files()),
        config=config,
        encoder=encoder,
        folder=str(Path.cwd()),
        datastore_id=str(uuid.uuid4()),
        tasks=(),
    )


def cut(plan: BuildPlan) -> BuildPlan:
    """The same plan with its tasks: consecutive pieces of the input, of about as many bytes each.

    A task has a 64th of the input, but at least 4 MiB and, where the input can be cut, at most about 256 MiB; or what
    `input.task_bytes` says. Neither workers nor time have a say, so the same input gives the same tasks.
    """
    share = min(max(SMALLEST_TASK_BYTES, plan.bytes // WANTED_TASKS), LARGEST_TASK_BYTES)
    target = plan.config.input.task_bytes or share
    tasks: list[list[Piece]] = []
    filled = target
    for piece in cut_inputs(plan.inputs, target):
        # A piece goes where it fits better: into the task that is there, unless that would be too large by more than
        # half of the piece.
        if filled >= target or (tasks[-1] and filled + piece.size / 2 > target):
            tasks.append([])
            filled = 0
        tasks[-1].append(piece)
        filled += piece.size
    return replace(plan, tasks=tuple(map(tuple, tasks)))


def save_plan(workspace: Workspace, plan: BuildPlan) -> None:
    tree: dict[str, Any] = _ADAPTER.dump_python(plan, mode="json")
    write_marker(workspace.plan, tree)


def load_plan(workspace: Workspace) -> BuildPlan | None:
    """The plan of the build that was begun here; None where there is none that this program can go on with."""
    tree = read_marker(workspace.plan)
    try:
        return None if tree is None else _ADAPTER.validate_python(tree)
    except ValidationError:
        return None


def difference(begun: BuildPlan, wanted: BuildPlan) -> str:
    """What keeps a build that was begun from being gone on with, in words; empty if nothing does."""
    for field in fields(BuildPlan):
        old, new = getattr(begun, field.name), getattr(wanted, field.name)
        if field.name in _RUN_FIELDS or old == new:
            continue
        if field.name in {"files", "cleaning_files"}:
            changed = sorted({file.location for file in set(old) ^ set(new)})
            return f"the input has changed since: {changed[0]}" + (f" and {len(changed) - 1} more" * (len(changed) > 1))
        if field.name in {"config", "encoder"}:
            old, new = _first_difference(asdict(old), asdict(new))
            return f"a setting is another: {new} now, {old} then"
        return f"the {field.name} is another: {new!r} now, {old!r} then"
    return ""


def _first_difference(old: dict[str, Any], new: dict[str, Any], path: str = "") -> tuple[str, str]:
    for key, value in old.items():
        if isinstance(value, dict) and isinstance(new[key], dict) and value != new[key]:
            return _first_difference(value, new[key], f"{path}{key}.")
        if value != new[key]:
            return f"{path}{key} = {value!r}", f"{path}{key} = {new[key]!r}"
    raise AssertionError("they are equal")


def _file(path: str) -> InputFile:
    return InputFile(path, Path(path).stat().st_size, _modified_ns(path))


def _modified_ns(location: str) -> int:
    try:
        return Path(location).stat().st_mtime_ns
    except (OSError, ValueError):  # not a file of this machine
        return 0
