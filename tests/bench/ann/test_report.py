from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from bench.ann.measure import Build, EngineResult, Point
from bench.ann.plot import plot_results
from bench.ann.report import cost_at, front, p50, render_markdown, seconds_per_query
from bench.ann.results import Results, read_results, write_results
from bench.ann.run import Output, render
from datastore.errors import InvalidArgument, NotFound


def point(recall: float, p50_ms: float, *, cold: bool = False) -> Point:
    return Point(
        params={"nprobe": 8},
        cold=cold,
        recall=recall,
        recall_deep=None if cold else recall / 2,
        p50_ms=p50_ms,
        p99_ms=2 * p50_ms,
        single_queries=100,
        queries_per_second=2000 / p50_ms,
        batch_queries=200,
        anonymous_bytes=500_000_000,
        file_bytes=7_000_000,
        others_share=0.04,
    )


POINTS = [point(0.8, 1.0), point(0.9, 4.0), point(0.85, 5.0), point(0.92, 3.0), point(0.96, 12.0)]


def results(*points: Point, engine: str = "scann") -> Results:
    build = Build({"leaves": 10}, 61.0, 123_000_000, {"python": "3.11", "scann": "1.4"}, 0.02)
    return Results(
        command="pergamon bench ann",
        machine={"cpu": "A CPU", "simd": "avx2", "logical_cpus": 2, "memory_gib": 23.5, "kernel": "Linux 6"},
        dataset={"vectors_count": 1_000_000, "dimension": 256, "vectors": "base.npy", "queries": "q.npy"},
        cores=[0, 1],
        k=10,
        deep_k=100,
        engines=[EngineResult(engine, build, 0.5, 20_000_000, list(points))],
    )


def test_the_front_leaves_out_what_is_beaten() -> None:
    assert [(each.recall, each.p50_ms) for each in front(POINTS, p50)] == [(0.8, 1.0), (0.92, 3.0), (0.96, 12.0)]
    assert front([], p50) == []


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (0.5, 1.0),  # the first point finds more
        (0.8, 1.0),
        (0.92, 3.0),
        (0.94, 6.0),  # half way between 3 and 12, in the logarithm
        (0.96, 12.0),
        (0.97, None),
    ],
)
def test_the_cost_of_a_recall(target: float, expected: float | None) -> None:
    cost = cost_at(POINTS, target, p50)
    assert cost == (None if expected is None else pytest.approx(expected))


def test_the_cost_of_a_batch_falls_with_its_throughput() -> None:
    cost = cost_at([point(0.9, 2.0), point(0.98, 8.0)], 0.94, seconds_per_query)
    assert cost is not None
    assert 1 / cost == pytest.approx(math.sqrt(1000 * 250))


def test_the_tables_say_it() -> None:
    text = render_markdown(results(point(0.90, 1.0), point(0.96, 4.0), point(0.95, 9.0, cold=True)), ["a.png"])
    assert "# ANN engines at 1,000,000 vectors of 256 dimensions" in text
    assert "![recall and cost](a.png)" in text
    assert "| engine | 0.9 | 0.95 | 0.98 | 0.99 | 0.995 |" in text
    assert "| scann | 1.00 / 2.00 ms, 2,000/s | 3.17 / 6.35 ms, 630/s | - | - | - |" in text
    assert "| scann | 500 | 20 | 7 | 123 | 61 | 2% | 0.50 | leaves 10 |" in text
    assert "| nprobe 8 | 0.9600 | 0.4800 | 4.000 | 8.000 | 500 | 4% |" in text
    assert "| nprobe 8 | 0.9500 | - | 9.000 | 18.000 | 222 | 4% |" in text
    assert "cold" not in render_markdown(results(point(0.90, 1.0)))


def test_files_and_back(tmp_path: Path) -> None:
    output = Output(tmp_path, "1m")
    written = dataclasses.replace(results(*POINTS, point(0.9, 9.0, cold=True)), failed={"zvec-diskann": "no time"})
    write_results(written, output.path(".json"))
    assert read_results(output.path(".json")) == written
    pytest.importorskip("matplotlib")
    render(output)
    assert "zvec-diskann: not measured: no time" in (tmp_path / "ann-1m.md").read_text()
    for name in ("ann-1m-warm.png", "ann-1m-cold.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        assert name in (tmp_path / "ann-1m.md").read_text()
    assert not plot_results(results(point(0.9, 1.0)), tmp_path / "none.png", cold=True)
    assert not (tmp_path / "none.png").exists()


def test_engines_of_an_earlier_run_are_kept() -> None:
    earlier = dataclasses.replace(results(point(0.9, 1.0), engine="scann"), failed={"lancedb-rq": "absent"})
    later = dataclasses.replace(results(point(0.9, 2.0), engine="pergamon"), failed={"qdrant-edge": "absent"})
    joined = later.joined(earlier)
    assert [result.engine for result in joined.engines] == ["scann", "pergamon"]
    assert sorted(joined.failed) == ["lancedb-rq", "qdrant-edge"]
    again = results(point(0.95, 3.0), engine="scann").joined(joined)
    assert [(result.engine, result.points[0].recall) for result in again.engines] == [
        ("pergamon", 0.9),
        ("scann", 0.95),
    ]


def test_other_data_is_not_mixed_in() -> None:
    other = dataclasses.replace(results(point(0.9, 1.0)), dataset={"vectors_count": 5})
    with pytest.raises(InvalidArgument, match="dataset"):
        results(point(0.9, 1.0)).joined(other)


def test_a_file_that_holds_no_results(tmp_path: Path) -> None:
    (tmp_path / "ann-x.json").write_text('{"engines": [{}]}')
    with pytest.raises(NotFound, match="ann-x"):
        render(Output(tmp_path, "x"))
