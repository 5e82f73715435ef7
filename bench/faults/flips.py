"""One changed bit at a time, in every file of a store: does `verify` name the file, and does a search ever lie?"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from datastore.documents import PassageName
from datastore.errors import DataLoss, PergamonError
from datastore.store.manifest import MANIFEST_NAME, read_manifest
from datastore.verify import verify
from retriever.api import Mode, SearchRequest
from retriever.client import open_store

EDGES = (0, 1, 4, 8, 12, 16, 24, 32, 48, 64, 100)
"""Bytes from either end: magic numbers, lengths, footers, checksums."""
_MODES: tuple[Mode, ...] = ("hybrid", "dense", "bm25")


@dataclass(frozen=True, slots=True)
class Probe:
    """What is asked of a store, whole and damaged."""

    queries: Sequence[str]
    names: Sequence[PassageName]
    where: str


@dataclass(frozen=True, slots=True)
class Flip:
    """What became of one changed bit."""

    path: str
    """Relative to the store."""
    position: int
    found: bool
    """`verify` failed, and named the file."""
    search: str
    """`right`, `DataLoss`, or what else happened: that is a fault."""

    @property
    def sound(self) -> bool:
        return self.found and self.search in ("right", "DataLoss")


def answers(store: Path, probe: Probe) -> list[object]:
    """All that a user sees of hits, filtered too, and of passages by name."""
    with closing(open_store(store)) as retriever:
        found: list[object] = [
            retriever.search(SearchRequest(query, mode=mode, where=where)).hits
            for query in probe.queries
            for mode in _MODES
            for where in (None, probe.where)
        ]
        return [*found, *retriever.get_passages(probe.names)]


def positions(size: int, seed: str, more: int, edges: Sequence[int] = EDGES) -> list[int]:
    """So far from both ends, the quarters, and some drawn by the seed."""
    chosen = {*edges, *(size - 1 - edge for edge in edges), size // 4, size // 2, 3 * size // 4}
    generator = random.Random(seed)  # noqa: S311
    chosen |= {generator.randrange(size) for _ in range(more if size else 0)}
    return sorted(position for position in chosen if 0 <= position < size)


def flip_everywhere(
    store: Path, probe: Probe, *, more: int = 20, edges: Sequence[int] = EDGES, suffixes: tuple[str, ...] = ("",)
) -> Iterator[Flip]:
    """Change one bit of a store and undo it, for `more` random positions of each file beside its edges.

    Args:
        suffixes: of the files to change; all files by default.
    """
    right = answers(store, probe)
    names = [record.path for record in read_manifest(store).files()]
    names += [path.relative_to(store).as_posix() for path in sorted((store / "generations").glob("*.json"))]
    for name in filter(lambda name: name.endswith(suffixes), [MANIFEST_NAME, *names]):
        path = store / name
        content = path.read_bytes()
        for position in positions(len(content), name, more, edges):
            changed = bytearray(content)
            changed[position] ^= 1 << random.Random(f"{name} {position}").randrange(8)  # noqa: S311
            path.write_bytes(changed)
            try:
                yield Flip(name, position, _found(store, path), _searched(store, probe, right))
            finally:
                path.write_bytes(content)


def _found(store: Path, path: Path) -> bool:
    try:
        return any(str(path) in problem for problem in verify(store).problems)
    except DataLoss as error:
        return str(path) in error.problem


def _searched(store: Path, probe: Probe, right: list[object]) -> str:
    try:
        return "right" if answers(store, probe) == right else "wrong"
    except PergamonError as error:
        return type(error).__name__ if isinstance(error, DataLoss) else f"{type(error).__name__}: {error}"
    except Exception as error:  # what no caller expects is a finding, too
        return f"{type(error).__name__}: {error}"


def kind(path: str) -> str:
    """`segments/00000001-000000/bm25/_0.cfs` -> `bm25/*.cfs`."""
    parts = path.split("/")
    inside = parts[2:] if parts[0] == "segments" else parts
    name = inside[-1]
    if len(inside) > 1:
        name = f"*.{name.rpartition('.')[2]}" if "." in name else name.split("-")[0]
    return "/".join([*inside[:-1], name])


def summary(flips: Sequence[Flip]) -> list[tuple[str, int, int, int, int]]:
    """(kind of file, changes, found by verify, DataLoss in searches, right answers), by kind."""
    counts: dict[str, Counter[str]] = {}
    for flip in flips:
        counts.setdefault(kind(flip.path), Counter()).update(["flips", *(["found"] if flip.found else []), flip.search])
    return [(name, c["flips"], c["found"], c["DataLoss"], c["right"]) for name, c in sorted(counts.items())]
