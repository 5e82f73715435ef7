"""The crash campaign, in short: nothing acknowledged is lost, nothing mixed seen, what was killed is gone on with."""

from __future__ import annotations

from pathlib import Path

from bench.faults import report
from bench.faults.kills import Campaign


def test_kills(tmp_path: Path) -> None:
    results = Campaign(tmp_path, seed=2, builds=("build",), operations=("add",)).run(4)
    assert results.faults == []
    assert sum(kill.killed for kill in results.kills) >= 4
    assert results.answers > 0
    assert results.completed > 0

    record = report.Record()
    record.add(results)
    report.save(record, tmp_path / "state.json")
    assert report.load(tmp_path / "state.json") == record
    assert "Faults: 0." in report.markdown(record)
