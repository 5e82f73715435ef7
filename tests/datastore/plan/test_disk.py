"""Disk of whole datastores, of text that the constants were not fitted to, against what the builder wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from datastore.errors import InvalidArgument
from datastore.info import describe_store
from datastore.plan.constants import Constants
from datastore.plan.planner import make_plan
from datastore.plan.request import PlanRequest
from datastore.plan.sample import like_store
from tests.conftest import BuildStore


@pytest.mark.parametrize("words", [256, 100])
def test_scifact_takes_what_was_planned(collection: Callable[[str], Path], build_store: BuildStore, words: int) -> None:
    store = build_store(collection("scifact"), chunk={"words": words})
    info = describe_store(store)
    constants = Constants({"tokens_per_word": info.tokens / info.words})
    request = PlanRequest(
        passages=info.passages, tokens_per_passage=info.tokens / info.passages, dimension=info.encoder.dimension
    )
    shape = make_plan(request, constants).shapes[0]
    assert shape.index.kind == "flat"
    assert shape.disk_bytes == pytest.approx(info.bytes_total, rel=0.1)
    blocks = 8 * (info.segments - 1)  # of each segment the last may be short
    assert shape.disk["exact vectors"] + shape.disk["block checksums"] == pytest.approx(
        info.bytes_by_part["vectors"], abs=blocks
    )
    for part in ("passages", "bm25"):
        assert shape.disk[part] == pytest.approx(info.bytes_by_part[part], rel=0.15)


def test_a_sample_says_it_of_its_own_corpus(scifact_store: Path) -> None:
    info = describe_store(scifact_store)
    sample = like_store(scifact_store)
    request = PlanRequest(
        tokens=10 * info.tokens, tokens_per_passage=sample.tokens_per_passage, dimension=sample.dimension
    )
    plan = make_plan(request, Constants(sample.constants))
    assert plan.size.passages == pytest.approx(10 * info.passages, rel=0.001)
    assert plan.size.words == pytest.approx(10 * info.words, rel=0.001)
    assert plan.shapes[0].disk_bytes == pytest.approx(10 * info.bytes_total, rel=0.01)
    assert {"passage_bytes", "column_bytes"} <= {one.name for one in plan.assumptions if one.basis == "given"}


def test_a_small_sample_is_refused(build_store: BuildStore, tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text('{"_id": "a", "text": "one passage"}\n')
    with pytest.raises(InvalidArgument, match="1 passages of 2 words; a sample needs 1000 passages"):
        like_store(build_store(tmp_path / "one.jsonl"))
