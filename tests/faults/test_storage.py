"""A full disk, a read-only folder and a second writer: one line that says so, and nothing lost."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.faults.storage import OTHER_WRITER, READ_ONLY, Obstacles


def test_obstacles() -> None:
    operations = ("add", "delete")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # one of them is run as nobody
        refusals = Obstacles(Path(folder)).run(operations, (2_000,))
    assert [refusal for refusal in refusals if refusal.fault] == []
    said = {(refusal.obstacle, refusal.operation): refusal.said for refusal in refusals}
    for operation in operations:
        assert "another process is writing" in said[OTHER_WRITER, operation]
        assert "Permission denied" in said[READ_ONLY, operation]
    full = [refusal for refusal in refusals if refusal.obstacle.startswith("files of") and refusal.status]
    assert {refusal.operation for refusal in full} >= {"build", "add"}
    assert all("no space left" in refusal.said for refusal in full)
