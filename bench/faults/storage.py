"""A full disk, a folder that may not be written, a second writer: what every operation says, and what is left."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.faults.state import State, read_state, record
from bench.faults.victim import Victims
from datastore.store.lock import write_lock
from datastore.verify import verify

_DOCUMENTS = 60
OTHER_WRITER = "another writer"
READ_ONLY = "a folder that may not be written"
SIZES = (300, 2_000, 20_000)
"""Bytes that a file may have: the first stops small files, the last some large ones only."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What one operation did under one obstacle."""

    obstacle: str
    operation: str
    status: int
    said: str
    """The last line on standard error."""
    fault: str
    """Empty where the store then holds what it held, or what it should hold after a success."""


class Obstacles:
    """Runs every operation under every obstacle.

    Args:
        folder: that others may look into, for the operations that give up being the superuser.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store = folder / "store"
        self._victims = Victims(folder)
        self._state: dict[str, int] = {f"d{number}": 1 for number in range(_DOCUMENTS)}

    def run(self, operations: Sequence[str], sizes: Sequence[int] = SIZES) -> list[Refusal]:
        try:
            self._write_inputs()
            build = ["build", "--input", str(self._folder / "build.jsonl"), "--store", str(self._store)]
            build += ["--encoder", "hashing", "--segment-passages", "20"]
            found = [self._tried(f"files of {size} bytes", "build", build, size) for size in sizes]
            if status := self._run(build):
                raise RuntimeError(f"build ended with status {status}: {self._victims.last_words()}")
            for name in operations:
                found += [self._tried(f"files of {size} bytes", name, self._arguments(name), size) for size in sizes]
                found += [self._tried(obstacle, name, self._arguments(name)) for obstacle in (OTHER_WRITER, READ_ONLY)]
            return found
        finally:
            self._victims.close()

    def _write_inputs(self) -> None:
        for name, numbers in (("build", range(_DOCUMENTS)), ("add", range(_DOCUMENTS, 70)), ("update", range(5))):
            lines = (record(number, 2 if name == "update" else 1) for number in numbers)
            (self._folder / f"{name}.jsonl").write_text("".join(lines))
        (self._folder / "delete.txt").write_text("d7\nd8\n")

    def _arguments(self, name: str) -> list[str]:
        inputs = {
            "add": ["--input", str(self._folder / "add.jsonl")],
            "update": ["--input", str(self._folder / "update.jsonl")],
            "delete": ["--document-ids", str(self._folder / "delete.txt")],
        }
        return [name, str(self._store), *inputs.get(name, [])]

    def _after(self, name: str) -> State:
        if name == "add":
            return self._state | {f"d{number}": 1 for number in range(_DOCUMENTS, 70)}
        if name == "update":
            return self._state | {f"d{number}": 2 for number in range(5)}
        if name == "delete":
            return {document: version for document, version in self._state.items() if document not in ("d7", "d8")}
        return self._state

    def _tried(self, obstacle: str, name: str, arguments: Sequence[str], file_bytes: int | None = None) -> Refusal:
        """As if it had not been tried, afterwards."""
        saved = self._folder / "saved"
        if self._store.exists():
            shutil.copytree(self._store, saved)
        with _obstacle(obstacle, self._store):
            status = self._run(arguments, file_bytes, unprivileged=obstacle == READ_ONLY)
        refusal = Refusal(
            obstacle, name, status, self._victims.last_words() if status else "", self._fault(name, status)
        )
        shutil.rmtree(self._store, ignore_errors=True)
        if saved.exists():
            saved.rename(self._store)
        return refusal

    def _fault(self, name: str, status: int) -> str:
        if status not in (0, 1):
            return f"it ended with status {status}"
        if status and not self._victims.last_words().startswith("error: "):
            return f"it said {self._victims.last_words()!r}"
        found = read_state(self._store)
        before = None if name == "build" else self._state
        wanted = self._after(name) if status == 0 else before
        if (None if found is None else found[1]) != wanted:
            return "the store does not hold what it should"
        if found is not None and (problems := verify(self._store).problems):
            return f"verify: {problems[0]}"
        return ""

    def _run(self, arguments: Sequence[str], file_bytes: int | None = None, *, unprivileged: bool = False) -> int:
        return self._victims.run(arguments, file_bytes=file_bytes, unprivileged=unprivileged)


@contextmanager
def _obstacle(name: str, store: Path) -> Iterator[None]:
    with ExitStack() as held:
        if name == OTHER_WRITER:
            held.enter_context(write_lock(store))
        elif name == READ_ONLY:
            held.enter_context(_read_only(store))
        yield


@contextmanager
def _read_only(store: Path) -> Iterator[None]:
    """Nothing in it may be written, nor its permissions changed by others than its owner."""
    modes = {path: path.stat().st_mode for path in [store, *store.rglob("*")]}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222 | (0o555 if path.is_dir() else 0o444))
    try:
        yield
    finally:
        for path, mode in modes.items():
            if path.exists():
                path.chmod(mode)
