"""A short campaign of damaged inputs: the long one is `python -m bench.fuzz_inputs`."""

from __future__ import annotations

from pathlib import Path

from bench.fuzz_inputs import campaign, case_file, report, run_case


def test_damaged_inputs_end_in_documents_rejects_or_clear_errors(tmp_path: Path) -> None:
    outcomes = list(campaign(range(9, 160), limit_s=60))
    assert [outcome.case for outcome in outcomes] == list(range(9, 160))
    assert [outcome for outcome in outcomes if outcome.end.startswith(("crash", "hang"))] == []
    assert {"documents", "rejects"} <= {outcome.end for outcome in outcomes}
    assert "151 cases, 0 crashed or hung" in report(outcomes)


def test_bombs_are_refused_by_size(tmp_path: Path) -> None:
    assert run_case(2, tmp_path) == "rejects"
    assert case_file(2)[0] == "long.jsonl"
    assert case_file(77) == case_file(77)
