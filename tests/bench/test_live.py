"""A served datastore that changes under load: nothing fails, nothing is mixed, what is new is found."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from bench.live import History, Phase, Plan, measure_opening, report, run_phase
from bench.service import served

WORDS = ["sky", "lantern", "copper", "harbour", "marble", "willow", "anchor", "ember", "thistle", "quarry"]


def test_shards_behind_a_router_while_the_store_changes(tmp_path: Path, build_store: Callable[..., Path]) -> None:
    chance = random.Random(5)
    texts = [" ".join(chance.choices(WORDS, k=9)) for _ in range(1500)]
    source = tmp_path / "texts.jsonl"
    source.write_text("".join(json.dumps({"_id": f"d{i}", "text": text}) + "\n" for i, text in enumerate(texts)))
    index = {"kind": "ivf-pq4", "nlist": 16, "pq_m": 16, "tune_queries": 0}
    store = build_store(source, chunk={"words": 0}, segment={"passages": 400}, index=index)
    copy = Path(shutil.copytree(store, tmp_path / "copy"))
    plan = Plan(copy, 2.0, texts[:50], clients=3, shards=2, documents=12, every_s=0.0, mode="hybrid", k=50)
    history, phase = History(), Phase("served")
    with served(copy, 2, "--refresh-seconds", "0.1", "--warm-up-s", "0") as address:
        run_phase(plan, address, history, phase)
    assert (phase.errors, phase.mixed, phase.incomplete) == ([], [], 0)
    assert len(phase.milliseconds) > 20
    assert len(phase.generations) > 2
    assert phase.found_s
    assert all(map(math.isfinite, [*phase.found_s, *phase.gone_s]))

    opening = measure_opening(plan)
    assert (opening.passages, opening.added) == (1500 + len(history.added) - len(history.deleted), 12)
    table = report(plan, [phase], [opening])
    assert "| served |" in table
    assert "| with 12 added, beside it |" in table


def test_what_a_generation_holds() -> None:
    history = History({"a": 3}, {"a": 5, "old": 4})
    assert [history.holds("a", g) for g in (2, 3, 4, 5)] == [False, True, True, False]
    assert [history.holds("old", g) for g in (1, 3, 4)] == [True, True, False]
    assert history.holds("other", 1)
