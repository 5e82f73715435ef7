"""Is a datastore what was written? Every file's size and checksum, then whether its parts open and agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datastore.errors import DataLoss, PergamonError
from datastore.store.checksums import hash_file
from datastore.store.generations import kept_generations
from datastore.store.lock import LOCK_NAME
from datastore.store.manifest import MANIFEST_NAME, Manifest, generation_path, read_manifest
from datastore.store.reader import StoreReader, check_size


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify` found; sound when there are no problems."""

    generation: int
    files: int
    bytes: int
    problems: tuple[str, ...]
    """One line each, naming the file."""
    orphans: tuple[str, ...]
    """Files that no generation names: harmless, left by a writer that died."""


def verify(store: Path, on_progress: Callable[[int, int], None] = lambda done, total: None) -> VerifyReport:
    """Read every byte of the store's current generation and compare it with the manifest.

    Args:
        on_progress: told the bytes read and the bytes in all.

    Raises:
        NotFound, FailedPrecondition, DataLoss: the manifest itself cannot be read.
    """
    manifest = read_manifest(store)
    records = manifest.files()
    total = sum(record.bytes for record in records)
    problems: list[str] = []
    done = 0
    for record in records:
        try:
            check_size(store, record)
            seen = hash_file(store / record.path)
            if seen != record.xxh3_128:
                problems.append(f"{store / record.path} is damaged: its checksum is {seen}, wanted {record.xxh3_128}")
        except OSError as error:
            problems.append(f"{store / record.path} cannot be read: {error.strerror}")
        except DataLoss as error:
            problems.append(error.problem)
        done += record.bytes
        on_progress(done, total)
    if not problems:
        problems += _open_problems(store, manifest)
    return VerifyReport(manifest.generation, len(records) + 1, total, tuple(problems), _orphans(store, manifest))


def _open_problems(store: Path, manifest: Manifest) -> list[str]:
    """Whether the parts open and have the rows that the manifest says."""
    try:
        reader = StoreReader(store)
    except PergamonError as error:
        return [error.problem]
    try:
        indexed = reader.bm25.passage_count if reader.bm25 is not None else 0
        if indexed != manifest.rows:
            return [f"the BM25 indexes of {store} hold {indexed} passages; the manifest says {manifest.rows}"]
        return []
    finally:
        reader.close()


def _orphans(store: Path, manifest: Manifest) -> tuple[str, ...]:
    known = {record.path for record in manifest.files()} | {MANIFEST_NAME, LOCK_NAME}
    for kept in kept_generations(store):  # readers may hold those before this one
        known |= {generation_path(store, kept.generation).relative_to(store).as_posix()}
        known |= {record.path for record in kept.files()}
    found = (path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file())
    return tuple(sorted(path for path in found if path not in known))
