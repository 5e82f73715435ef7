"""What happened in a build, for programs: JSON Lines, appended to as it goes on, by whichever process leads it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

LOG_NAME = "build-log.jsonl"


class BuildLog:
    """Appends events: objects with `time` (UTC, ISO 8601), `event`, and what the event has."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, event: str, **values: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": now, "event": event, **values}, ensure_ascii=False) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """All events; a line that a killed process left unfinished is passed over."""
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            events.append(event)
    return events
