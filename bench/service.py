"""What the wire and the router add to a search: the same queries in process and over gRPC, in turn, in one run."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from datastore.errors import InvalidArgument, NotFound, Unavailable
from retriever.api import Mode, Retriever, SearchRequest
from retriever.client import open_target

MODES: tuple[Mode, ...] = ("bm25", "dense", "hybrid")
_STOP_S = 30.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of one mode, one query at a time."""

    mode: Mode
    queries: int
    local_p50: float
    local_p99: float
    wire_p50: float
    wire_p99: float

    @property
    def added_p50(self) -> float:
        """What the wire and the router add, as the difference of the medians."""
        return self.wire_p50 - self.local_p50


def read_queries(path: Path, limit: int) -> list[str]:
    """Field `text` of the first `limit` lines of a JSON Lines file, such as a BEIR folder's queries.jsonl."""
    try:
        with path.open(encoding="utf-8") as lines:
            texts = [str(json.loads(line)["text"]) for line in islice(lines, limit) if line.strip()]
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}", mend="give a JSON Lines file of queries") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidArgument(f"{path} is not JSON Lines with a field text: {error!r}", mend="mend the file") from None
    if not texts:
        raise InvalidArgument(f"{path} has no queries", mend="give a file with at least one query")
    return texts


def measure_service(
    store: Path,
    queries: Sequence[str],
    shards: int,
    k: int,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[Latency]:
    """Latency of every mode, in process and through a router with `shards` servers, all on loopback."""
    with (
        closing(open_target(str(store))) as local,
        served(store, shards) as address,
        closing(open_target(address)) as remote,
    ):
        results = []
        done = 0
        for mode in MODES:
            for retriever in (local, remote):  # the first calls load and compile
                for query in queries[:20]:
                    _timed(retriever, SearchRequest(query, k=k, mode=mode))
            local_ms, wire_ms = [], []
            for query in queries:
                request = SearchRequest(query, k=k, mode=mode, require_complete=True)
                local_ms.append(_timed(local, request))
                wire_ms.append(_timed(remote, request))
                done += 1
                on_progress(done)
            spread = [*np.percentile(local_ms, [50, 99]), *np.percentile(wire_ms, [50, 99])]
            results.append(Latency(mode, len(queries), *(float(value) for value in spread)))
        return results


def _timed(retriever: Retriever, request: SearchRequest) -> float:
    start = time.perf_counter()
    retriever.search(request)
    return (time.perf_counter() - start) * 1e3


@contextmanager
def served(store: Path, shards: int, *options: str) -> Iterator[str]:
    """A router over `shards` servers of a store, each a process of its own; gives `grpc://host:port`.

    Args:
        options: of `pergamon serve`.
    """
    with ExitStack() as stack:
        addresses = [
            stack.enter_context(_server("serve", str(store), "--shard", f"{index}/{shards}", *options))
            for index in range(shards)
        ]
        plain = ",".join(address.removeprefix("grpc://") for address in addresses)
        yield stack.enter_context(_server("route", "--shards", plain))


@contextmanager
def _server(*arguments: str) -> Iterator[str]:
    command = [sys.executable, "-m", "pergamon.cli", *arguments, "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 (our own command)
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()  # printed when it serves; nothing if it failed
        if not address:
            status = process.wait()
            raise Unavailable(f"pergamon {arguments[0]} ended with status {status}", mend="see its message above")
        yield address
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
