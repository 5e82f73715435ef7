"""The crash campaign: a datastore lives through a build and changes of every kind, each of them killed some times over,
at a step or at any moment, while readers search.

Each operation is first done undisturbed on a copy, which lists its steps and says what should come out. After each kill
the store must hold what it held before or what it should hold after, whole; after the last, the operation is run again
to its end, and the store must answer as the copy does.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.faults.state import State, digest, rankings, read_state, record
from bench.faults.victim import Victims
from datastore.errors import PergamonError
from datastore.store.generations import kept_generations
from datastore.verify import verify

OPERATIONS = ("add", "update", "delete", "compact", "tune")
_DOCUMENTS = 300
_LIVES = ("ivf-pq4", "flat")
"""Index kinds, in turn: the first has all kinds of files, the second is the usual one of small stores."""
_TOML = """
encoder.name = "hashing"
segment.passages = 80
index.kind = "{kind}"
{lists}index.tune_queries = 20
clean.duplicates.near = false
"""


@dataclass(frozen=True, slots=True)
class Kill:
    """One operation that was killed, or that was faster."""

    operation: str
    moment: str
    """The step that it was about to do, or `at random`."""
    killed: bool
    published: bool
    """Whether the store then held what the operation makes."""


@dataclass
class Results:
    """What a campaign came to; sound when there are no faults."""

    kills: list[Kill] = field(default_factory=list)
    answers: int = 0
    """That concurrent readers were given."""
    completed: int = 0
    """Operations run to their end and compared with the undisturbed ones."""
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Operation:
    name: str
    arguments: Sequence[str]
    after: State


class Campaign:
    """Kills operations until there are enough. Everything follows from the seed, but for the moments at random."""

    def __init__(
        self, folder: Path, *, seed: int = 0, operations: Sequence[str] = OPERATIONS, watch: bool = True
    ) -> None:
        self.results = Results()
        self._folder = folder
        self._random = random.Random(seed)  # noqa: S311
        self._operations = operations
        self._watching = watch
        self._errors = folder / "errors.txt"
        self._victims = Victims(self._errors)
        self._lives = 0
        self._end = 0.0
        self._next_number = 0
        self._steps_killed: Counter[str] = Counter()

    def run(self, kills: int, seconds: float = float("inf")) -> Results:
        """Args:
        seconds: after which no other operation is begun.
        """
        self._end = time.monotonic() + seconds
        try:
            while self._goes_on(kills):
                self._live(kills)
        finally:
            self._victims.close()
        return self.results

    def _goes_on(self, kills: int) -> bool:
        killed = sum(kill.killed for kill in self.results.kills)
        return killed < kills and len(self.results.faults) < kills and time.monotonic() < self._end

    def _live(self, kills: int) -> None:
        """Build a datastore and change it with every operation twice."""
        life = self._folder / f"life{self._lives}"
        life.mkdir()
        store = life / "store"
        kind = _LIVES[self._lives % len(_LIVES)]
        self._lives += 1
        (life / "build.toml").write_text(_TOML.format(kind=kind, lists="" if kind == "flat" else "index.nlist = 4\n"))
        allowed: dict[int, set[str]] = {}
        with self._watcher(store, life / "answers.jsonl"):
            state: State | None = None
            for name in ("build", *self._operations, *self._random.sample(self._operations, len(self._operations))):
                operation = self._operation(name, life, state or {})
                if not self._do(operation, store, life, state, allowed):
                    break
                state = operation.after
                if not self._goes_on(kills):
                    break
        self._judge(life / "answers.jsonl", allowed)
        shutil.rmtree(life)

    def _operation(self, name: str, life: Path, state: State) -> _Operation:
        """What is done next, and what the store should hold then."""
        source, store = life / (f"{name}.txt" if name == "delete" else f"{name}.jsonl"), str(life / "store")
        known = sorted(state)
        if name in ("build", "add", "update"):
            new = range(self._next_number, self._next_number + {"build": _DOCUMENTS, "add": 12, "update": 3}[name])
            self._next_number = new.stop
            changed = {f"d{number}": 1 for number in new}
            if name == "update":
                changed |= {document: state[document] + 1 for document in self._random.sample(known, 5)}
            source.write_text("".join(record(int(one[1:]), version) for one, version in changed.items()))
            arguments = [name, "--input", str(source), *(["--store", store] if name == "build" else [store])]
            if name == "build":
                arguments += ["--config", str(life / "build.toml")]
            return _Operation(name, arguments, {**state, **changed})
        if name == "delete":
            gone = self._random.sample(known, 6)
            source.write_text("".join(f"{document}\n" for document in gone))
            after = {document: version for document, version in state.items() if document not in gone}
            return _Operation(name, [name, store, "--document-ids", str(source)], after)
        return _Operation(name, [name, store], state)

    def _do(
        self, operation: _Operation, store: Path, life: Path, before: State | None, allowed: dict[int, set[str]]
    ) -> bool:
        """Kill the operation some times, then let it end; False after a fault, which makes what follows meaningless."""
        oracle, steps, seconds = self._undisturbed(operation, store, life)
        digests = {digest(operation.after)} | ({digest(before)} if before is not None else set())
        first = (read_state(store) or (0, {}))[0]
        done = False
        for _ in range(self._random.randint(2, 5)):
            if done:
                break
            kill = self._kill(operation, store, steps, seconds)
            faults, done = self._after_kill(operation, store, before, killed=kill[1])
            self.results.kills.append(Kill(operation.name, kill[0], kill[1], done))
            self.results.faults += [f"{operation.name} killed at {kill[0]}: {fault}" for fault in faults]
            if faults:
                return False
        faults = list(self._completed(operation, store, oracle, done=done))
        self.results.completed += 1
        self.results.faults += [f"{operation.name} after being killed: {fault}" for fault in faults]
        last = (read_state(store) or (0, {}))[0]
        for generation in range(first, last + 1):
            allowed.setdefault(generation, set()).update(digests)
        shutil.rmtree(oracle)
        return not faults

    def _undisturbed(self, operation: _Operation, store: Path, life: Path) -> tuple[Path, list[str], float]:
        """(store afterwards, names of the steps, seconds) of the operation on a copy."""
        oracle, steps = life / "oracle", life / "steps"
        steps.unlink(missing_ok=True)
        if store.exists() and operation.name != "build":
            shutil.copytree(store, oracle)
        arguments = [argument.replace(str(store), str(oracle)) for argument in operation.arguments]
        started = time.monotonic()
        self._victims.start(arguments, oracle, record=steps)
        status = self._victims.wait()
        if status:
            raise RuntimeError(f"pergamon {' '.join(arguments)} ended with status {status}: {self._last_error()}")
        return oracle, steps.read_text().splitlines(), time.monotonic() - started

    def _last_error(self) -> str:
        return (self._errors.read_text(errors="replace").splitlines() or [""])[-1]

    def _kill(self, operation: _Operation, store: Path, steps: Sequence[str], seconds: float) -> tuple[str, bool]:
        """(moment, whether the operation died of it)."""
        if self._random.random() < 0.3:
            process = self._victims.start(operation.arguments, store)
            time.sleep(self._random.uniform(0.0, seconds))
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            return "at random", self._victims.wait() == -signal.SIGKILL
        # Of the kinds of step that were reached least often, any; of its occurrences, any.
        keys = [f"{operation.name}: {step}" for step in steps]
        least = min(self._steps_killed[key] for key in keys)
        key = self._random.choice(sorted({key for key in keys if self._steps_killed[key] == least}))
        self._steps_killed[key] += 1
        number = self._random.choice([place for place, other in enumerate(keys) if other == key])
        self._victims.start(operation.arguments, store, kill_at=number)
        return steps[number], self._victims.wait() == -signal.SIGKILL

    def _after_kill(
        self, operation: _Operation, store: Path, before: State | None, *, killed: bool
    ) -> tuple[list[str], bool]:
        """(faults, whether the operation was published)."""
        try:
            found = read_state(store)
        except (PergamonError, AssertionError) as error:
            return [f"the store cannot be read: {error}"], False
        state = None if found is None else found[1]
        done = state == operation.after and (state != before or not killed)
        if not done and not killed:
            return [f"it was acknowledged, but {_difference(state, operation.after)}"], False
        if not done and state != before:
            return [f"the store is neither as before nor as after: {_difference(state, operation.after)}"], False
        if found is not None and (problems := verify(store).problems):
            return [f"verify finds {len(problems)} problems, as {problems[0]}"], done
        return [], done

    def _completed(self, operation: _Operation, store: Path, oracle: Path, *, done: bool) -> Iterator[str]:
        if not done:
            self._victims.start(operation.arguments, store)
            if status := self._victims.wait():
                yield f"run again, it ended with status {status}: {self._last_error()}"
                return
        try:
            found, report = read_state(store), verify(store)
            if found is None or found[1] != operation.after:
                yield f"an acknowledged change is lost: {_difference(found and found[1], operation.after)}"
            yield from (f"verify: {problem}" for problem in report.problems)
            # What a reader held when the operation ended is for the next writer to remove; it knows of it by the copy.
            held = {record.path for kept in kept_generations(store) for record in kept.files()}
            orphans = [orphan for orphan in report.orphans if orphan not in held and "generations/" not in orphan]
            if not done and orphans:
                yield f"{len(orphans)} files are left over, as {orphans[0]}"
            if rankings(store) != rankings(oracle):
                yield "it answers otherwise than a store that was not disturbed"
        except (PergamonError, AssertionError) as error:
            yield f"the store cannot be read: {error}"

    @contextmanager
    def _watcher(self, store: Path, log: Path) -> Iterator[None]:
        log.touch()
        if not self._watching:
            yield
            return
        command = [sys.executable, "-m", "bench.faults.watcher", str(store), str(log)]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as process:  # noqa: S603
            try:
                yield
            finally:
                assert process.stdin is not None
                process.stdin.close()
                process.wait(60)

    def _judge(self, log: Path, allowed: dict[int, set[str]]) -> None:
        """Every answer to the reader beside must be what its generation holds."""
        for line in log.read_text().splitlines():
            answer = json.loads(line)
            self.results.answers += 1
            if "error" in answer:
                self.results.faults.append(f"a reader beside failed: {answer['error']}")
            elif answer["digest"] not in allowed.get(answer["generation"], {answer["digest"]}):
                self.results.faults.append(f"a reader beside saw a mixture, in generation {answer['generation']}")


def _difference(seen: State | None, wanted: State) -> str:
    if seen is None:
        return "there is no store"
    missing = sorted(wanted.keys() - seen.keys())
    more = sorted(seen.keys() - wanted.keys())
    other = sorted(one for one in seen.keys() & wanted.keys() if seen[one] != wanted[one])
    return ", ".join(
        f"{len(documents)} {what}, as {documents[0]}"
        for what, documents in (("missing", missing), ("too many", more), ("of another version", other))
        if documents
    )
