"""The measures, worked out by hand, and those that the field knows of two collections."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from math import log2
from pathlib import Path

import ir_measures
import pytest
from typer.testing import CliRunner

from bench.beir import Judged, read_judged
from bench.retrieval import MEASURES, Run, measure, retrieve, write_run
from datastore.errors import InvalidArgument
from pergamon.cli import app
from retriever.api import Retriever, SearchRequest
from retriever.client import open_target

JUDGED = Judged({"q1": "", "q2": "", "q3": ""}, {"q1": {"d1": 2, "d2": 1, "d8": 0}, "q2": {"d3": 1}, "q3": {"d9": 1}})
RUN: Run = {"q1": {"d2": 0.9, "d5": 0.8, "d1": 0.7}, "q2": {"d4": 12.5, "d3": 9.5}, "q3": {}}
BY_HAND = {
    # q1 has gains 1, 0, 2 where 2, 1 would be ideal; q2 has its only document second; q3 finds nothing.
    "nDCG@10": ((1 + 2 / log2(4)) / (2 + 1 / log2(3)) + 1 / log2(3) + 0) / 3,
    "R@100": (1 + 1 + 0) / 3,
    "AP": ((1 / 1 + 2 / 3) / 2 + 1 / 2 + 0) / 3,
    "P@30": (2 / 30 + 1 / 30 + 0) / 3,
}


def test_measures_by_hand() -> None:
    assert measure(JUDGED, RUN) == pytest.approx(BY_HAND, abs=1e-12)


def test_a_query_without_results_scores_0_as_does_one_that_is_missing() -> None:
    assert measure(JUDGED, {name: found for name, found in RUN.items() if found}) == pytest.approx(BY_HAND, abs=1e-12)
    assert measure(JUDGED, {"q1": {}, "q2": {}, "q3": {}}) == dict.fromkeys(BY_HAND, 0.0)


def test_scores_count_as_numbers() -> None:
    """As strings, 9.5 would come before 12.5."""
    assert measure(JUDGED, {**RUN, "q2": {"d3": 12.5, "d4": 9.5}})["AP"] == pytest.approx((5 / 6 + 1) / 3)


def test_a_run_on_disk_gives_the_same_measures(tmp_path: Path) -> None:
    path = tmp_path / "run.txt"
    write_run(path, RUN, "tag")
    assert path.read_text().splitlines() == [
        "q1 Q0 d2 1 0.9 tag",
        "q1 Q0 d5 2 0.8 tag",
        "q1 Q0 d1 3 0.7 tag",
        "q2 Q0 d4 1 12.5 tag",
        "q2 Q0 d3 2 9.5 tag",
    ]
    assert measured(path, JUDGED) == pytest.approx(BY_HAND, abs=1e-12)


def measured(run: Path, judged: Judged) -> dict[str, float]:
    """What ir_measures says of a run on disk."""
    read = ir_measures.read_trec_run(str(run))  # type: ignore[no-untyped-call]
    results = ir_measures.calc_aggregate(MEASURES, judged.qrels, read)
    return {str(name): value for name, value in results.items()}


def test_an_id_that_a_run_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="'a b' has a space"):
        write_run(tmp_path / "run.txt", {"q1": {"a b": 1.0}}, "tag")
    with pytest.raises(InvalidArgument, match="cannot be written: No such file or directory"):
        write_run(tmp_path / "nowhere" / "run.txt", RUN, "tag")


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory, build_store: Callable[..., Path]) -> Iterator[Retriever]:
    """Two documents of three passages each, and one that no query finds."""
    texts = {
        "a": "violet engine number nine " * 2 + "violet violet violet violet",
        "b": "engine of another sort " + "violet sits down here " + "nothing to see here",
        "c": "something else entirely now",
    }
    source = tmp_path_factory.mktemp("documents") / "few.jsonl"
    source.write_text("".join(json.dumps({"_id": name, "text": text}) + "\n" for name, text in texts.items()))
    opened = open_target(str(build_store(source, chunk={"words": 4})))
    yield opened
    opened.close()


def test_a_document_has_the_score_of_its_best_passage(retriever: Retriever) -> None:
    request = SearchRequest(k=100, mode="bm25")
    told: list[int] = []
    run = retrieve(retriever, {"q1": "violet engine", "q2": "violet", "q3": "unheard", "q4": " "}, request, told.append)
    assert list(run) == ["q1", "q2", "q3", "q4"]
    assert (run["q3"], run["q4"]) == ({}, {})
    assert told == [1, 2, 3, 4]
    for query_id, text in (("q1", "violet engine"), ("q2", "violet")):
        hits = retriever.search(SearchRequest(text, 100, "bm25")).hits
        assert len(hits) > len(run[query_id]) == 2
        best = {name: max(hit.score for hit in hits if hit.document_id == name) for name in ("a", "b")}
        assert run[query_id] == best
        assert list(run[query_id]) == sorted(best, key=lambda name: -best[name])
    # The last passage of a says nothing else.
    assert list(run["q2"]) == ["a", "b"]


def test_measures_see_the_order_of_diverse_hits(retriever: Retriever) -> None:
    """Which is not that of their scores."""
    request = SearchRequest("violet engine", 100, "dense", mmr_lambda=0.0)
    hits = retriever.search(request).hits
    assert [hit.score for hit in hits] != sorted((hit.score for hit in hits), reverse=True)
    found = retrieve(retriever, {"q1": "violet engine"}, request)["q1"]
    assert sorted(found, key=lambda name: -found[name]) == list(dict.fromkeys(hit.document_id for hit in hits))


KNOWN = {
    "scifact": ("100", {"nDCG@10": (0.6789, 0.003), "R@100": (0.9253, 0.01)}),
    "cacm": ("1000", {"AP": (0.3123, 0.003), "P@30": (0.1942, 0.003)}),
}
"""Collection -> depth of the run, measure -> its value and how near it must come."""


@pytest.mark.parametrize("name", KNOWN)
def test_bm25_has_the_quality_that_is_known_of_it(
    name: str, collection: Callable[[str], Path], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    k, wanted = KNOWN[name]
    beir, store = collection(name), request.getfixturevalue(f"{name}_store")
    run = tmp_path / "bm25.run"
    arguments = ["--beir", str(beir), "--store", str(store), "--mode", "bm25", "-k", k, "--run", str(run), "--json"]
    done = CliRunner().invoke(app, ["eval", "retrieval", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    assert done.stderr == ""
    measures = json.loads(done.stdout)
    assert list(measures) == ["nDCG@10", "R@100", "AP", "P@30"]
    for measure_name, (value, tolerance) in wanted.items():
        assert measures[measure_name] == pytest.approx(value, abs=tolerance)
    assert measured(run, read_judged(beir, "test")) == pytest.approx(measures, abs=1e-6)
