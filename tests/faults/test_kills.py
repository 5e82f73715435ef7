"""The crash campaign, in short: nothing acknowledged is lost, nothing mixed seen, what was killed is gone on with."""

from __future__ import annotations

import json
from pathlib import Path

from bench.faults import report
from bench.faults.kills import Campaign
from bench.faults.operations import WORKERS


def test_kills(tmp_path: Path) -> None:
    results = Campaign(tmp_path, seed=2, builds=(WORKERS,), operations=("delete",)).run(6)
    assert results.faults == []
    assert {kill.operation for kill in results.kills if kill.killed} == {WORKERS, "delete"}
    assert any(kill.moment.startswith("worker: ") for kill in results.kills)
    assert results.answers > 0
    assert results.completed > 0

    record = report.Record()
    record.add(results)
    report.save(record, tmp_path / "state.json")
    assert report.load(tmp_path / "state.json") == record
    assert "Faults: 0." in report.markdown(record)
    tree = json.loads((tmp_path / "state.json").read_text())
    del tree["steps"]  # as those were kept that did not list them
    (tmp_path / "state.json").write_text(json.dumps(tree))
    assert report.load(tmp_path / "state.json").kills == record.kills
