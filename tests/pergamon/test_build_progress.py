"""The rate of a build and the time that is left, by a clock that the test moves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from datastore.tasks.progress import BuildProgress
from pergamon import build_progress
from pergamon.build_progress import Pace, describe, shown_progress

ROOT = Path(__file__).resolve().parents[2]


def step(stage: str = "passages", documents: int = 0, passages: int = 0, total: int | None = 1000) -> BuildProgress:
    return BuildProgress(stage, documents, passages, 2, 7 * passages, total, tasks_done=1, tasks=4)


def test_rate_and_time_left() -> None:
    now = 100.0
    pace = Pace(lambda: now)
    assert pace.add(step(documents=400)) == ("", "")  # what an earlier run has done is told at once
    now += 0.5
    assert pace.add(step(documents=500)) == ("", "")
    now += 9.5
    assert pace.add(step(documents=600)) == ("10/s", "0:00:40 left")
    now += 60
    assert pace.add(step(documents=900)) == ("5/s", "0:00:20 left")  # of the last minute
    assert pace.add(step("index", documents=900, passages=50)) == ("", "")
    now += 10
    assert pace.add(step("index", documents=900, passages=150, total=None)) == ("10/s", "")


def test_in_words() -> None:
    assert describe(step(documents=10, passages=1500)) == (
        "passages, 1 of 4 tasks: 10 of 1,000 documents, 1,500 passages, 10,500 tokens, 2 rejected"
    )
    assert describe(step("index", documents=900, passages=50)) == (
        "index, 1 of 4 tasks: 900 documents, 50 of 1,000 passages, 350 tokens, 2 rejected"
    )


def test_where_no_terminal_is_a_line_comes_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with shown_progress() as show:
        show(step(documents=1))
    assert capfd.readouterr().err == ""  # a short build says nothing on the way
    monkeypatch.setattr(build_progress, "LINE_EVERY_S", 0.0)
    with shown_progress() as show:
        show(step(documents=1))
        show(step(documents=2))
    said = capfd.readouterr().err.splitlines()
    assert [line.partition(" tasks: ")[2].partition(" of ")[0] for line in said] == ["1", "2"]


def test_ctrl_c_is_one_line_that_says_how_to_go_on(tmp_path: Path) -> None:
    program = (
        "import pergamon.commands.build as b, pergamon.cli as c, sys\n"
        "def stop(*_, **__): raise KeyboardInterrupt\n"
        "b.build_datastore = b.publish_build = stop\n"
        "sys.argv = ['pergamon', *sys.argv[1:]]\n"
        "c.main()\n"
    )
    for arguments, again in (
        (["build", "--input", "x", "--store", "s"], "the same command"),
        (["publish", "my.store"], "pergamon publish my.store"),
    ):
        command = [sys.executable, "-c", program, *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.strip() == f"interrupted; {again} again goes on from here"
