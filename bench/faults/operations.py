"""What a datastore of the crash campaign goes through: the commands of each operation, and what it should hold then."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.faults.state import State, record

OPERATIONS = ("add", "update", "delete", "compact", "tune")
BUILD = "build"
WORKERS = "build --workers 2"
ARRAY_JOB = "build --task I/2, publish"
BUILDS = (BUILD, WORKERS, ARRAY_JOB)
SHARE, PUBLISH = "share", "publish"
_DOCUMENTS = 300
_KINDS = ("ivf-pq4", "flat")
"""Of index, in turn: the first has all kinds of files, the second is the usual one of small stores."""
_TOML = """
encoder.name = "hashing"
input.task_bytes = 14000
segment.passages = 80
index.kind = "{kind}"
{lists}index.tune_queries = 20
clean.duplicates.near = false
"""
"""Three tasks, of two segments each."""


@dataclass(frozen=True, slots=True)
class Command:
    """A process, with the processes that it starts."""

    arguments: Sequence[str]
    role: str = ""
    """Tells its steps from those of the other commands of the operation."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What is done to a store."""

    name: str
    together: Sequence[Sequence[Command]]
    """Commands that run at the same time, one such group after another."""
    after: State

    def elsewhere(self, store: Path, other: Path) -> Operation:
        """The same, done to another store."""
        groups = [
            [
                Command([one.replace(str(store), str(other)) for one in command.arguments], command.role)
                for command in group
            ]
            for group in self.together
        ]
        return Operation(self.name, groups, self.after)


class Life:
    """The operations on one datastore, whose inputs lie in a folder of its own."""

    def __init__(self, folder: Path, number: int, generator: random.Random) -> None:
        self.store = folder / "store"
        self._folder = folder
        self._random = generator
        self._next_document = 0
        kind = _KINDS[number % len(_KINDS)]
        folder.mkdir()
        lists = "" if kind == "flat" else "index.nlist = 4\n"
        (folder / "build.toml").write_text(_TOML.format(kind=kind, lists=lists))

    def build(self, name: str) -> Operation:
        """One of `BUILDS`."""
        after = self._write("build", self._new(_DOCUMENTS))
        command = ["build", "--input", str(self._folder / "build.jsonl"), "--store", str(self.store)]
        command += ["--config", str(self._folder / "build.toml")]
        if name == WORKERS:
            return Operation(name, [[Command([*command, "--workers", "2"])]], after)
        if name == ARRAY_JOB:
            shares = [Command([*command, "--task", f"{number}/2"], SHARE) for number in range(2)]
            return Operation(name, [shares, [Command(["publish", str(self.store)], PUBLISH)]], after)
        return Operation(name, [[Command(command)]], after)

    def change(self, name: str, state: State) -> Operation:
        """One of `OPERATIONS`, on a store that holds `state`."""
        arguments, after = [name, str(self.store)], state
        if name in ("add", "update"):
            changed = self._new({"add": 12, "update": 3}[name])
            if name == "update":
                changed |= {document: state[document] + 1 for document in self._random.sample(sorted(state), 5)}
            after = {**state, **self._write(name, changed)}
            arguments += ["--input", str(self._folder / f"{name}.jsonl")]
        elif name == "delete":
            gone = self._random.sample(sorted(state), 6)
            ids = self._folder / "delete.txt"
            ids.write_text("".join(f"{document}\n" for document in gone))
            after = {document: version for document, version in state.items() if document not in gone}
            arguments += ["--document-ids", str(ids)]
        return Operation(name, [[Command(arguments)]], after)

    def _new(self, count: int) -> dict[str, int]:
        numbers = range(self._next_document, self._next_document + count)
        self._next_document = numbers.stop
        return {f"d{number}": 1 for number in numbers}

    def _write(self, name: str, documents: State) -> State:
        lines = (record(int(document[1:]), version) for document, version in documents.items())
        (self._folder / f"{name}.jsonl").write_text("".join(lines))
        return documents
