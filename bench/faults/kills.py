"""The crash campaign: a datastore lives through a build and changes of every kind, each of them killed some times over,
at a step or at any moment, while readers search.

Each operation is first done undisturbed on a copy, which lists its steps and says what should come out. After each kill
the store must hold what it held before or what it should hold after, whole, and no process may go on; after the last,
the operation is run again to its end, and the store must answer as the copy does.
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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.faults.operations import BUILDS, OPERATIONS, SHARE, Life, Operation
from bench.faults.state import State, digest, rankings, read_state, stable_files
from bench.faults.steps import Death, Orders, Step, died, forget, read_steps
from bench.faults.victim import ENVIRONMENT, Victims, alive, wait_for_end
from datastore.errors import PergamonError
from datastore.store.generations import kept_generations
from datastore.verify import verify

AT_RANDOM = "at random"
AT_RANDOM_A_WORKER = "worker: at random"
_RANDOM_SHARE = 0.25
_ALONE_SHARE = 0.1
"""Of the deaths of one of several commands, after which the others go on."""
_ROUND, _LONGEST = 3, 12
"""Kills of an operation in a row; more while some of its kinds of step have had none: of a build, all of them."""
_ROUND_AT_RANDOM = 6
_LOOK_S = 0.002
_END_S = 20.0
"""As long may a process go on whose parent was killed."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One operation that was killed, or that was faster."""

    operation: str
    moment: str
    """The kind of step that it was about to do, or one of the moments at random."""
    killed: bool
    published: bool
    """Whether the store then held what the operation makes."""

    @property
    def at_step(self) -> bool:
        return self.moment not in (AT_RANDOM, AT_RANDOM_A_WORKER)


@dataclass
class Results:
    """What a campaign came to; sound when there are no faults."""

    kills: list[Kill] = field(default_factory=list)
    steps: dict[str, set[str]] = field(default_factory=dict)
    """Operation -> kinds of step that it was seen to take."""
    answers: int = 0
    """That concurrent readers were given."""
    completed: int = 0
    """Operations run to their end and compared with the undisturbed ones."""
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Run:
    """How an operation went."""

    killed: bool
    """One of its processes was."""
    acknowledged: bool
    """All of them ended well."""
    moment: str
    """If it was at random."""
    steps: list[Step]
    seconds: float
    faults: list[str]


class Campaign:
    """Kills operations until there are enough. Everything follows from the seed, but for the moments at random, and
    for which worker does what.

    Args:
        earlier: kills of other campaigns, so that kinds of step are preferred that had none.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seed: int = 0,
        builds: Sequence[str] = BUILDS,
        operations: Sequence[str] = OPERATIONS,
        earlier: Iterable[Kill] = (),
        watch: bool = True,
    ) -> None:
        self.results = Results()
        self._folder = folder
        self._random = random.Random(seed)  # noqa: S311
        self._builds = builds
        self._operations = operations
        self._watching = watch
        self._victims = Victims(folder)
        self._record = folder / "steps"
        self._lives = 0
        self._wanted, self._end = 0, 0.0
        self._at_steps = Counter((kill.operation, kill.moment) for kill in earlier if kill.killed)

    def run(self, kills: int, seconds: float = float("inf")) -> Results:
        """Args:
        seconds: after which nothing else is killed.
        """
        self._wanted, self._end = kills, time.monotonic() + seconds
        try:
            while self._goes_on():
                self._live()
        finally:
            self._victims.close()
        return self.results

    @property
    def _left(self) -> int:
        """Kills to come."""
        return self._wanted - sum(kill.killed for kill in self.results.kills)

    def _goes_on(self) -> bool:
        return self._left > 0 and len(self.results.faults) < self._wanted and time.monotonic() < self._end

    def _live(self) -> None:
        """Build a datastore and change it with every operation twice; every other one is only built, and killed at
        random: a build goes on where it was, so that a random moment would pass over steps that are to come."""
        folder = self._folder / f"life{self._lives}"
        life = Life(folder, self._lives // 2, self._random)
        names = [self._builds[self._lives // 2 % len(self._builds)]]
        if self._lives % 2 == 0:
            names += [*self._operations, *self._random.sample(self._operations, len(self._operations))]
        allowed: dict[int, set[str]] = {}
        with self._watcher(life.store, folder / "answers.jsonl"):
            state: State | None = None
            for name in names:
                operation = life.build(name) if state is None else life.change(name, state)
                if not self._do(operation, life.store, state, allowed):
                    break
                state = operation.after
                if not self._goes_on():
                    break
        self._judge(folder / "answers.jsonl", allowed)
        self._lives += 1
        shutil.rmtree(folder)

    def _do(self, operation: Operation, store: Path, before: State | None, allowed: dict[int, set[str]]) -> bool:
        """Kill the operation some times, then let it end; False after a fault, which makes what follows meaningless."""
        oracle = store.parent / "oracle"
        if before is not None:
            shutil.copytree(store, oracle)
        undisturbed = self._run(operation.elsewhere(store, oracle), oracle)
        if undisturbed.faults:
            raise RuntimeError(f"{operation.name}, undisturbed: {undisturbed.faults[0]}")
        digests = {digest(operation.after)} | ({digest(before)} if before is not None else set())
        first = (read_state(store) or (0, {}))[0]
        done = False
        aim = _Aim(undisturbed.steps, self._random, goes_on=before is None)
        for kind in self._round(operation.name, undisturbed.steps):
            death = aim.at(kind) if kind is not None else None
            run = self._run(operation, store, death, undisturbed.seconds if kind is None else None)
            found, done = self._after_kill(operation, store, before, acknowledged=run.acknowledged)
            faults = [*run.faults, *found]
            self._note(Kill(operation.name, kind or run.moment, run.killed, done), faults)
            if faults:
                return False
            if done or run.acknowledged or not self._goes_on():
                break
        faults = list(self._completed(operation, store, oracle, before, done=done))
        self.results.completed += 1
        self.results.faults += [f"{operation.name} after being killed: {fault}" for fault in faults]
        last = (read_state(store) or (0, {}))[0] if not faults else first
        for generation in range(first, last + 1):
            allowed.setdefault(generation, set()).update(digests)
        shutil.rmtree(oracle)
        return not faults

    def _note(self, kill: Kill, faults: Sequence[str]) -> None:
        self.results.kills.append(kill)
        self.results.faults += [f"{kill.operation} killed at {kill.moment}: {fault}" for fault in faults]
        if kill.killed and kill.at_step:
            self._at_steps[kill.operation, kill.moment] += 1

    def _round(self, name: str, steps: Sequence[Step]) -> list[str | None]:
        """Kinds of step to be killed at, those first that were least often, in the order in which the operation takes
        them; None for a moment at random."""
        if name in BUILDS and self._lives % 2:
            return [None] * _ROUND_AT_RANDOM
        place = {step.kind: number for number, step in reversed(list(enumerate(steps)))}
        kinds = sorted(self.results.steps[name])
        self._random.shuffle(kinds)
        kinds.sort(key=lambda kind: self._at_steps[name, kind])
        never = sum(self._at_steps[name, kind] == 0 for kind in kinds)
        count = max(never if name in BUILDS else min(never, _LONGEST), _ROUND)
        count = min(count, max(self._left // 2, _ROUND))
        chosen: list[str | None] = []
        for kind in sorted(kinds[:count], key=lambda kind: place.get(kind, len(steps))):
            with_random = name not in BUILDS and self._random.random() < _RANDOM_SHARE
            chosen += [None, kind] if with_random else [kind]
        return chosen

    def _run(
        self, operation: Operation, store: Path, death: Death | None = None, random_within_s: float | None = None
    ) -> _Run:
        """Do the operation, killing it at a step, or at a random moment of its first so many seconds."""
        forget(self._record)
        began, moment = time.monotonic(), AT_RANDOM
        until = None if random_within_s is None else began + self._random.uniform(0.0, random_within_s)
        killed = acknowledged = False
        faults: list[str] = []
        for group in operation.together:
            orders = [Orders(str(store), command.role, str(self._record), death) for command in group]
            running = [
                self._victims.start(command.arguments, order) for command, order in zip(group, orders, strict=True)
            ]
            struck = self._strike(running, until) if until is not None else None
            if death is not None and not death.alone and len(running) > 1:
                self._end_the_others(running)
            statuses = [self._victims.wait(process) for process in running]
            moment = AT_RANDOM if struck is None or struck in running else AT_RANDOM_A_WORKER
            words = self._victims.last_words()
            # Whoever has lost a worker says so.
            killed = -signal.SIGKILL in statuses or (1 in statuses and "was killed by signal 9" in words)
            acknowledged = not any(statuses)
            if not killed and not acknowledged:
                faults.append(f"it ended with status {max(statuses)}: {words}")
            if left := wait_for_end(running, _END_S):
                faults.append(f"{len(left)} processes of it go on")
                for process in left:
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
            if not acknowledged:
                break
        steps = read_steps(self._record)
        self.results.steps.setdefault(operation.name, set()).update(step.kind for step in steps)
        return _Run(killed, acknowledged, moment, steps, time.monotonic() - began, faults)

    def _strike(self, running: Sequence[int], until: float) -> int | None:
        """Kill one of these processes, or of their workers, when it is time; its id."""
        while victims := sorted(alive(running)):
            if time.monotonic() < until:
                time.sleep(_LOOK_S)
                continue
            workers = [process for process in victims if process not in running]
            first = [process for process in victims if process in running]
            struck = self._random.choice(self._random.choice([one for one in (workers, first) if one]))
            with suppress(ProcessLookupError):
                os.kill(struck, signal.SIGKILL)
            return struck
        return None

    def _end_the_others(self, running: Sequence[int]) -> None:
        """Kill them all when one has died, before they pass steps that are to come."""
        while not died(self._record) and any(alive(running)):
            time.sleep(_LOOK_S)
        if died(self._record):
            for process in alive(running):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

    def _after_kill(
        self, operation: Operation, store: Path, before: State | None, *, acknowledged: bool
    ) -> tuple[list[str], bool]:
        """(faults, whether the operation was published)."""
        try:
            found = read_state(store)
        except (PergamonError, AssertionError) as error:
            return [f"the store cannot be read: {error}"], False
        state = None if found is None else found[1]
        done = state == operation.after and (state != before or acknowledged)
        if not done and acknowledged:
            return [f"it was acknowledged, but {_difference(state, operation.after)}"], False
        if not done and state != before:
            return [f"the store is neither as before nor as after: {_difference(state, operation.after)}"], False
        if found is not None and (problems := verify(store).problems):
            return [f"verify finds {len(problems)} problems, as {problems[0]}"], done
        return [], done

    def _completed(
        self, operation: Operation, store: Path, oracle: Path, before: State | None, *, done: bool
    ) -> Iterator[str]:
        if not done:
            run = self._run(operation, store)
            yield from (f"run again, {fault}" for fault in run.faults)
            if not run.acknowledged:
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
            if before is None and stable_files(store) != stable_files(oracle):
                yield "its files are others than those of a build that was not disturbed"
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
        with subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ | ENVIRONMENT) as process:  # noqa: S603
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


class _Aim:
    """Of the occurrences of a kind of step, which one is to be died at.

    Args:
        goes_on: the operation, run again, goes on where it was; what it did before, it does not do again.
    """

    def __init__(self, steps: Sequence[Step], generator: random.Random, *, goes_on: bool) -> None:
        self._steps = steps
        self._random = generator
        self._goes_on = goes_on
        self._reached = 0

    def at(self, kind: str) -> Death:
        ahead = self._steps[self._reached :]
        places = [place for place, step in enumerate(ahead) if step.kind == kind]
        alone = not kind.startswith(f"{SHARE}: ") or self._random.random() < _ALONE_SHARE
        if not places:
            return Death(kind, 1, alone)
        place = places[0] if self._goes_on else self._random.choice(places)
        process = ahead[place].process
        occurrence = sum(step.kind == kind and step.process == process for step in ahead[: place + 1])
        if self._goes_on:
            self._reached += place
        return Death(kind, occurrence, alone)


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
