"""One engine in a process of its own: takes commands as JSON lines, does and times them, answers in JSON lines.

Run by its path, with the Python of the engine's environment: of Pergamon that environment needs this room's files
alone, which are found from here. Timing is done here, so that no pipe is in it; ids go into `.npy` files.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Reply = dict[str, Any]


def _make_bench_importable() -> None:
    """Make the package `bench` known without putting the folder around it, which may hold others, on the path."""
    folder = Path(__file__).resolve().parents[1]
    spec = importlib.util.spec_from_file_location(
        "bench", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    sys.modules["bench"] = importlib.util.module_from_spec(spec)


class Worker:
    """Commands by name; each takes the fields of a request and gives those of the reply."""

    def __init__(self, name: str) -> None:
        from bench.ann.peers.registry import ENGINES

        self._engine = ENGINES[name]()
        self._folder = Path()
        self.commands: dict[str, Callable[..., Reply]] = {
            "versions": self.versions,
            "build": self.build,
            "open": self.open,
            "single": self.single,
            "batch": self.batch,
        }

    def versions(self) -> Reply:
        found = {}
        for package in self._engine.packages:
            try:
                found[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                found[package] = "from source"
        return {"versions": {"python": sys.version.split()[0], **found}}

    def build(self, vectors: str, folder: str, params: Reply) -> Reply:
        from bench.ann.load import OtherLoad
        from bench.ann.memory import PeakMemory, memory

        others = OtherLoad()
        with PeakMemory() as peak:
            start = time.perf_counter()
            self._engine.build(Path(vectors), Path(folder), params)
            seconds = time.perf_counter() - start
        return {"seconds": seconds, "others_share": others.share(), "peak_bytes": peak.bytes, **memory()}

    def open(self, folder: str) -> Reply:
        from bench.ann.cache import fill_page_cache
        from bench.ann.memory import PeakMemory, memory

        self._folder = Path(folder)
        before = memory()
        with PeakMemory() as peak:
            start = time.perf_counter()
            self._engine.open(self._folder)
            seconds = time.perf_counter() - start
        after = memory()
        fill_page_cache(self._folder)
        return {
            "seconds": seconds,
            "anonymous_before": before["anonymous_bytes"],
            "peak_bytes": peak.bytes,
            **after,
        }

    def single(self, *, queries: str, ids: str, k: int, params: Reply, budget_s: float, cold: bool) -> Reply:
        """One query after another until the budget of time is spent, each at a time of its own."""
        from bench.ann.cache import drop_page_cache
        from bench.ann.load import OtherLoad
        from bench.ann.memory import memory

        asked = np.load(queries)
        found, milliseconds = [], []
        spent = 0.0
        others = OtherLoad()
        for query in asked:
            if cold:
                drop_page_cache(self._folder)
            start = time.perf_counter()
            found.append(self._engine.search_one(query, k, params))
            seconds = time.perf_counter() - start
            milliseconds.append(seconds * 1e3)
            spent += seconds
            if spent > budget_s:
                break
        share = others.share()
        np.save(ids, np.stack(found))
        return {"milliseconds": milliseconds, "others_share": share, **memory()}

    def batch(self, *, queries: str, ids: str, k: int, params: Reply, repeats: int, cold: bool) -> Reply:
        """All queries at once, `repeats` times."""
        from bench.ann.cache import drop_page_cache
        from bench.ann.load import OtherLoad
        from bench.ann.memory import memory

        asked = np.load(queries)
        seconds = []
        others = OtherLoad()
        for _ in range(repeats):
            if cold:
                drop_page_cache(self._folder)
            start = time.perf_counter()
            found = self._engine.search_batch(asked, k, params)
            seconds.append(time.perf_counter() - start)
        share = others.share()
        np.save(ids, found)
        return {"seconds": seconds, "others_share": share, **memory()}


def main() -> None:
    # What an engine prints must not come between the replies.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    _make_bench_importable()
    worker = Worker(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = worker.commands[request.pop("do")](**request)
        except Exception as error:  # whatever an engine raises is the run's result for this engine
            reply = {"error": f"{type(error).__name__}: {error}", "missing": getattr(error, "name", None)}
        replies.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    main()
