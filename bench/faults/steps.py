"""Steps of a process, and its death at one of them.

A step is what Python itself is about to do with a file of the store: open, rename, remove, make a folder. Python tells
an audit hook of each, so that the program that is killed has no line for it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "shutil.rmtree")
WORKER = "worker"
_VARIABLE = "PERGAMON_FAULTS_ORDERS"


class Step(NamedTuple):
    """What a process was about to do."""

    role: str
    """Which of the processes of an operation; empty where there is but one."""
    process: int
    name: str
    """The same for all segments and generations: `os.rename manifest.json`."""

    @property
    def kind(self) -> str:
        return kind_of(self.role, self.name)


def kind_of(role: str, name: str) -> str:
    return f"{role}: {name}" if role else name


def step_name(event: str, path: str) -> str:
    return f"{event} {re.sub('[0-9]+', '#', path)}"


@dataclass(frozen=True, slots=True)
class Death:
    """Where a process kills itself."""

    kind: str
    """Of step (`Step.kind`)."""
    occurrence: int
    """In that process; from 1."""
    alone: bool
    """Only the first process that gets there."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What a process does beside its work."""

    store: str
    """Whose files count, as the process names them."""
    role: str
    record: str
    """A file that gets a line for each step."""
    death: Death | None = None

    def pass_on(self) -> None:
        """Have processes that this one starts do the same, as workers."""
        os.environ[_VARIABLE] = json.dumps(asdict(self) | {"role": WORKER})


def passed_on() -> Orders:
    """What the process was told that started this one."""
    tree: dict[str, Any] = json.loads(os.environ[_VARIABLE])
    return orders_from(tree)


def orders_from(tree: dict[str, Any]) -> Orders:
    """What `asdict` was given."""
    return Orders(**{**tree, "death": tree["death"] and Death(**tree["death"])})


def follow(orders: Orders) -> None:
    """Record every step from here on, and die where it is ordered."""
    log = os.open(orders.record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    reached = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal reached
        if event not in EVENTS:
            return
        path = arguments[1] if event in ("os.rename", "os.link") else arguments[0]
        if not isinstance(path, str | os.PathLike) or not os.fspath(path).startswith(orders.store):
            return
        name = step_name(event, os.fspath(path)[len(orders.store) + 1 :])
        if orders.death is not None and orders.death.kind == kind_of(orders.role, name):
            reached += 1
            if reached == orders.death.occurrence and (_first(_mark(orders.record)) or not orders.death.alone):
                os.kill(os.getpid(), signal.SIGKILL)
        os.write(log, f"{orders.role}\t{os.getpid()}\t{name}\n".encode())

    sys.addaudithook(hook)


def _mark(record: str | Path) -> str:
    """A file that is there when one has died."""
    return f"{record}.died"


def died(record: Path) -> bool:
    """Whether a process has killed itself since `forget`."""
    return Path(_mark(record)).exists()


def _first(mark: str) -> bool:
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL, 0o644))
    except FileExistsError:
        return False
    return True


def read_steps(record: Path) -> list[Step]:
    """In the order in which they were taken; a line that was cut off by a death is left out."""
    if not record.exists():
        return []
    lines = [line.split("\t") for line in record.read_text().splitlines()]
    return [Step(line[0], int(line[1]), line[2]) for line in lines if len(line) == 3]


def forget(record: Path) -> None:
    for path in (record, Path(_mark(record))):
        path.unlink(missing_ok=True)
