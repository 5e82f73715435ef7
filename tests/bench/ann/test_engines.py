"""Engines in processes of their own: ours and CompactDS's way always, the others where their environment is named."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from bench.ann.cache import cached_bytes, drop_page_cache, fill_page_cache
from bench.ann.measure import Point, Setup, build_engine, measure_engine
from bench.ann.peers.registry import ENGINES, OWN
from bench.ann.process import EngineProcess
from datastore.errors import FailedPrecondition, InvalidArgument, Unavailable

THOROUGH = {"nprobe": 128, "depth": 1000}
FAST = {"nprobe": 2, "depth": 20}
PEERS_PYTHON = os.environ.get("PERGAMON_PEERS_PYTHON")


@pytest.mark.parametrize("engine", [*OWN, "compactds"])
def test_built_and_measured(engine: str, setup: Setup) -> None:
    setup = dataclasses.replace(setup, cold=True)
    build = build_engine(setup, engine)
    rows, dimension = setup.dataset.base.shape
    assert build.seconds > 0
    assert build.disk_bytes > rows * dimension * 2
    assert build.versions["faiss-cpu"]
    seen: list[Point] = []
    result = measure_engine(setup, engine, build, [FAST, THOROUGH], seen.append)
    assert seen == result.points
    assert [(point.params, point.cold) for point in result.points] == [
        (FAST, False),
        (THOROUGH, False),
        (FAST, True),
        (THOROUGH, True),
    ]
    fast, thorough, _, cold = result.points
    assert thorough.recall > 0.97
    assert thorough.recall_deep is not None
    assert thorough.recall_deep > 0.9
    assert fast.recall < thorough.recall
    assert (cold.recall, cold.recall_deep) == (thorough.recall, None)
    for point in result.points:
        assert 0 < point.p50_ms <= point.p99_ms
        assert point.queries_per_second > 0
        assert point.anonymous_bytes > result.idle_bytes > 0
        assert 0 <= point.others_share <= 1
    assert build_engine(setup, engine) == build  # what is there is taken


def test_another_parameter_is_another_index(setup: Setup) -> None:
    few, fewer = (build_engine(setup, "compactds", {"nlist": nlist, "pq_m": 4}) for nlist in (16, 8))
    assert (few.params["nlist"], fewer.params["nlist"]) == (16, 8)
    assert fewer.params["train_per_list"] == few.params["train_per_list"] == 64


@pytest.mark.parametrize("engine", sorted(set(ENGINES) - {*OWN, "compactds"}))
def test_a_peer_finds_what_exact_search_finds(engine: str, setup: Setup) -> None:
    if PEERS_PYTHON is None:
        pytest.skip("PERGAMON_PEERS_PYTHON does not name the Python of bench/ann/make_peers_env.sh")
    setup = dataclasses.replace(setup, peers_python=Path(PEERS_PYTHON))
    build = build_engine(setup, engine)
    thorough = ENGINES[engine]().sweep(len(setup.dataset.base))[-1]
    (point,) = measure_engine(setup, engine, build, [dict(thorough)]).points
    assert point.recall > 0.95
    assert point.recall_deep is not None
    assert point.recall_deep > 0.9


def test_a_package_that_is_missing(setup: Setup) -> None:
    if importlib.util.find_spec("scann"):
        pytest.skip("ScaNN is installed here")
    with pytest.raises(FailedPrecondition, match=r"scann: build failed: ModuleNotFoundError.*make_peers_env\.sh"):
        build_engine(setup, "scann")


def test_a_name_that_is_none(setup: Setup) -> None:
    with pytest.raises(InvalidArgument, match="'faiss'; there are pergamon, pergamon-rabitq, compactds, scann"):
        build_engine(setup, "faiss")


def test_an_error_names_the_engine_and_leaves_its_process(setup: Setup) -> None:
    with setup.process("compactds") as process:
        with pytest.raises(FailedPrecondition, match="compactds: open failed: "):
            process.ask("open", 30.0, folder=str(setup.work / "absent"))
        assert process.ask("versions", 30.0)["versions"]["python"]


def test_a_process_that_ends(setup: Setup) -> None:
    with setup.process("no such engine") as process, pytest.raises(Unavailable, match="ended in versions"):
        process.ask("versions", 30.0)


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be started"):
        EngineProcess("scann", tmp_path / "python", (0,))


def test_the_page_cache_is_dropped_though_a_file_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "below" / "vectors.npy"
    path.parent.mkdir()
    np.save(path, np.ones((1000, 1000), np.float32))
    mapped = np.load(path, mmap_mode="r")
    fill_page_cache(tmp_path)
    assert float(mapped.sum()) == 1e6
    assert cached_bytes(path) >= 4_000_000
    drop_page_cache(tmp_path)
    if cached_bytes(path) >= 4_000_000:
        pytest.skip("this file system keeps its pages in memory alone")
    assert cached_bytes(path) == 0
    assert float(mapped.sum()) == 1e6
