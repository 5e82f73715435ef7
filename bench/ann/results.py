"""The results of a run as one JSON file: what was measured, on what, by which command."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.ann.measure import Build, EngineResult, Point
from datastore.errors import InvalidArgument, NotFound


@dataclass(frozen=True, slots=True)
class Results:
    command: str
    machine: dict[str, Any]
    dataset: dict[str, Any]
    cores: list[int]
    """Logical processors that every engine was pinned to."""
    k: int
    deep_k: int
    engines: list[EngineResult]
    failed: dict[str, str] = field(default_factory=dict)
    """Engine -> why there are no figures."""
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def joined(self, earlier: Results) -> Results:
        """With the engines of an earlier run on the same data and machine that this one did not measure.

        Raises:
            InvalidArgument: the earlier run's figures do not compare with these.
        """
        for name in ("machine", "dataset", "cores", "k", "deep_k"):
            mine, other = getattr(self, name), getattr(earlier, name)
            if mine != other:
                raise InvalidArgument(
                    f"the results there have {name} {other}; this run has {mine}",
                    mend="write to another --out or --label",
                    field="out",
                )
        tried = {result.engine for result in self.engines} | set(self.failed)
        kept = [result for result in earlier.engines if result.engine not in tried]
        failed = {name: reason for name, reason in earlier.failed.items() if name not in tried}
        return Results(
            self.command,
            self.machine,
            self.dataset,
            self.cores,
            self.k,
            self.deep_k,
            [*kept, *self.engines],
            {**failed, **self.failed},
            self.created,
        )


def write_results(results: Results, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(results), indent=1) + "\n", encoding="utf-8")


def read_results(path: Path) -> Results:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        engines = [
            EngineResult(
                **{
                    **engine,
                    "build": Build(**engine["build"]),
                    "points": [Point(**point) for point in engine["points"]],
                }
            )
            for engine in tree["engines"]
        ]
        return Results(**{**tree, "engines": engines})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotFound(f"{path} holds no results of bench ann: {error!r}", mend="run it again") from None
