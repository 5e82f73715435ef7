"""What the campaigns came to, kept as JSON between runs and shown as Markdown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.faults.flips import Flip, summary
from bench.faults.kills import Kill, Results
from bench.faults.storage import Refusal


@dataclass
class Record:
    """All runs so far."""

    kills: list[Kill] = field(default_factory=list)
    steps: dict[str, list[str]] = field(default_factory=dict)
    """Operation -> kinds of step that it was seen to take, sorted."""
    answers: int = 0
    completed: int = 0
    faults: list[str] = field(default_factory=list)
    flips: dict[str, list[Flip]] = field(default_factory=dict)
    """By the kind of index."""
    refusals: list[Refusal] = field(default_factory=list)

    def add(self, results: Results) -> None:
        self.kills += results.kills
        for operation, kinds in results.steps.items():
            self.steps[operation] = sorted(kinds.union(self.steps.get(operation, ())))
        self.answers += results.answers
        self.completed += results.completed
        self.faults += results.faults


def load(path: Path) -> Record:
    """What `save` has written; nothing, where there is no file."""
    if not path.exists():
        return Record()
    tree: dict[str, Any] = json.loads(path.read_text())
    return Record(
        [Kill(**kill) for kill in tree["kills"]],
        tree.get("steps", {}),
        tree["answers"],
        tree["completed"],
        tree["faults"],
        {kind: [Flip(**flip) for flip in flips] for kind, flips in tree["flips"].items()},
        [Refusal(**refusal) for refusal in tree["refusals"]],
    )


def save(record: Record, path: Path) -> None:
    path.write_text(json.dumps(asdict(record)) + "\n")


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines]


def markdown(record: Record) -> str:
    killed = [kill for kill in record.kills if kill.killed]
    lines = [
        "# What becomes of a datastore when processes die and bytes change",
        "",
        "Made by `python -m bench.faults`.",
        "",
        "## Kills",
        "",
        f"{len(killed)} SIGKILLs of operations on datastores of some 300 documents, built in three tasks, with indexes "
        "of the kinds ivf-pq4 and flat: before a step that a process of the operation takes with a file (the kinds "
        "that were least often, first) or at a random moment, several in a row, while a reader opens the datastore and "
        "searches. After each, no process of the operation was left, and the datastore held what it held before or "
        "what the operation makes; in the end the operation was run again, and the datastore answered as one that was "
        f"not disturbed ({record.completed} times; builds with the same bytes in vectors, columns and index). Each of "
        f"{record.answers} answers to the reader was what its generation holds.",
        "",
    ]
    rows = []
    never: list[str] = []
    for operation in dict.fromkeys(kill.operation for kill in killed):
        mine = [kill for kill in killed if kill.operation == operation]
        at_steps = [kill for kill in mine if kill.at_step]
        kinds = {kill.moment for kill in at_steps}
        known = kinds.union(record.steps.get(operation, ()))
        never += [f"{operation}: {kind}" for kind in sorted(known - kinds)]
        published = sum(kill.published for kill in mine)
        rows.append(
            (operation, len(mine), len(at_steps), f"{len(kinds)}/{len(known)}", len(mine) - len(at_steps), published)
        )
    head = ("operation", "kills", "at a step", "kinds of step, of those there are", "at random", "published by then")
    lines += [*_table(head, rows), ""]
    if never:
        lines += [f"Steps that no process was killed at: {len(never)}.", *(f"- `{step}`" for step in never), ""]
    lines += [f"Faults: {len(record.faults)}.", *(f"- {fault}" for fault in record.faults), ""]
    for kind, flips in record.flips.items():
        wrong = [flip for flip in flips if not flip.sound]
        lines += [f"## A changed bit, index {kind}", ""]
        lines += _table(
            ("file", "bits changed", "found by verify", "search: DATA_LOSS", "search: right"), summary(flips)
        )
        lines += ["", f"Not found, or wrong without a word: {len(wrong)}.", *(f"- {flip}" for flip in wrong), ""]
    if record.refusals:
        lines += ["## A full disk, a read-only folder, a second writer", ""]
        counts = Counter((one.operation, one.obstacle, one.status == 0) for one in record.refusals)
        obstacles = list(dict.fromkeys(one.obstacle for one in record.refusals))
        shown = []
        for operation in dict.fromkeys(one.operation for one in record.refusals):
            cells = [
                "done" if counts[operation, obstacle, True] else "refused" if counts[operation, obstacle, False] else ""
                for obstacle in obstacles
            ]
            shown.append((operation, *cells))
        faults = [one for one in record.refusals if one.fault]
        lines += _table(("operation", *obstacles), shown)
        lines += ["", f"Lost, or without a clear error: {len(faults)}.", *(f"- {fault}" for fault in faults), ""]
    return "\n".join(lines)
