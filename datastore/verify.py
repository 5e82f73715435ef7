"""Is a datastore what was written? Every file's size and checksum, then whether its parts open and agree, and find."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datastore.ann.operating_curve import Setting
from datastore.ann.sweep import OpenIndex, Sample, recall_at
from datastore.consistency import disagreements
from datastore.errors import InvalidArgument, PergamonError, ResourceExhausted
from datastore.store.checksums import FileRecord, check_file
from datastore.store.generations import is_held
from datastore.store.lock import LOCK_NAME
from datastore.store.manifest import (
    GENERATIONS_FOLDER,
    MANIFEST_NAME,
    Manifest,
    decode_manifest,
    generation_path,
    read_manifest,
)
from datastore.store.reader import StoreReader
from datastore.store.refusals import exhausted

RECALL_K = 10
_USUAL_RECALL = 0.95
_ERRORS_BELOW = 3.0
"""Standard errors, of both measurements together, that a recall may lie below the datastore's curve."""
_ROUNDING = 0.01

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class SampledRecall:
    """What a search finds of the nearest passages, compared with what the operating curve promises."""

    queries: int
    """Stored vectors, drawn by a seed, each kept from finding itself."""
    k: int
    nprobe: int
    candidate_depth: int
    recall: float
    recall_error: float
    """Standard error of the mean."""
    expected: float | None
    """By the operating curve; None where the datastore has none, or the index is exact."""


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
    old_generations: tuple[int, ...] = ()
    """Superseded ones that readers hold; their files are compared, too."""
    recall: SampledRecall | None = None


def verify(
    store: Path, on_progress: OnProgress = lambda done, total: None, *, recall_queries: int = 0, seed: int = 0
) -> VerifyReport:
    """Read every byte of the store's generations and compare it with their manifests, then the parts with one another.

    Args:
        on_progress: told the bytes read and the bytes in all.
        recall_queries: with so many stored vectors, also measure what a search finds; 0 for none.

    Raises:
        NotFound, FailedPrecondition, DataLoss: the manifest itself cannot be read.
        ResourceExhausted: there are too many files, or too little memory, to read the store; it may be sound.
    """
    if recall_queries < 0:
        raise InvalidArgument(
            f"recall is {recall_queries}; wanted a number of queries, or 0",
            mend="pass a number above 0",
            field="recall",
        )
    manifest = read_manifest(store)
    kept, problems = _kept_generations(store, manifest)
    problems += _lock_problems(store)
    records = {record.path: record for record in manifest.files()}
    older: dict[str, FileRecord] = {}
    for old in kept.values():
        older |= {record.path: record for record in old.files() if record.path not in records}
    problems += _damaged(store, [*records.values(), *older.values()], on_progress)
    recall = None
    if not problems:
        found, recall = _inside(store, recall_queries, seed)
        problems += found
    return VerifyReport(
        generation=manifest.generation,
        files=len(records) + len(older) + 1,
        bytes=sum(record.bytes for record in [*records.values(), *older.values()]),
        problems=tuple(problems),
        orphans=_orphans(store, [*records, *older, *(_copy_name(generation) for generation in kept)]),
        old_generations=tuple(sorted(kept.keys() - {manifest.generation})),
        recall=recall,
    )


def _kept_generations(store: Path, manifest: Manifest) -> tuple[dict[int, Manifest], list[str]]:
    """Number -> manifest of the current generation and those that readers hold; and what is wrong with the copies."""
    kept: dict[int, Manifest] = {}
    problems = []
    for path in sorted((store / GENERATIONS_FOLDER).glob("*.json")):
        try:
            data = path.read_bytes()
            copy = decode_manifest(path, data)
        except OSError as error:
            if short := exhausted(path, error):
                raise short from None
            problems.append(f"{path} cannot be read: {error.strerror}")
            continue
        except ResourceExhausted:
            raise  # it says nothing of the store
        except PergamonError as error:
            problems.append(error.problem)
            continue
        if path != generation_path(store, copy.generation):
            problems.append(f"{path} is of generation {copy.generation}")
        elif copy.generation == manifest.generation and copy != manifest:
            problems.append(f"{path} differs from {store / MANIFEST_NAME}, of the same generation")
        elif copy.datastore_id != manifest.datastore_id:
            problems.append(f"{path} is of another datastore, {copy.datastore_id}; this is {manifest.datastore_id}")
        elif copy.generation == manifest.generation or is_held(path):
            kept[copy.generation] = copy  # of others, a writer may have removed a part already
    return kept, problems


def _lock_problems(store: Path) -> list[str]:
    path = store / LOCK_NAME
    size = path.stat().st_size if path.is_file() else 0
    return [f"{path} has {size} bytes; wanted none"] if size else []


def _damaged(store: Path, records: Iterable[FileRecord], on_progress: OnProgress) -> Iterator[str]:
    listed = list(records)
    total, done = sum(record.bytes for record in listed), 0
    for record in listed:
        try:
            check_file(store, record)
        except ResourceExhausted:
            raise  # it says nothing of the store
        except PergamonError as error:
            yield error.problem
        done += record.bytes
        on_progress(done, total)


def _inside(store: Path, recall_queries: int, seed: int) -> tuple[list[str], SampledRecall | None]:
    """What is wrong though every file is what was written."""
    try:
        with closing(StoreReader(store)) as reader:
            problems = list(disagreements(reader))
            recall = _sampled_recall(reader, recall_queries, seed) if recall_queries and not problems else None
    except ResourceExhausted:
        raise  # it says nothing of the store
    except PergamonError as error:
        return [error.problem], None
    if recall is not None and recall.expected is not None and recall.recall < recall.expected:
        problems.append(
            f"the index of {store} finds {recall.recall:.3f} (standard error {recall.recall_error:.3f}) of the nearest "
            f"{recall.k} passages with {recall.nprobe} lists and {recall.candidate_depth} candidates; "
            f"by the operating curve in {store / MANIFEST_NAME} at least {recall.expected:.3f} were wanted"
        )
    return problems, recall


def _sampled_recall(reader: StoreReader, queries: int, seed: int) -> SampledRecall | None:
    manifest = reader.manifest
    total = sum(record.passages for record in manifest.segments)
    k = min(RECALL_K, total - 1)
    if k < 1:
        return None
    rows = np.sort(np.random.default_rng(seed).choice(total, min(queries, total), replace=False))
    over = OpenIndex(manifest.index, reader.ann, [segment.vectors for segment in reader.segments])
    setting, expected, known_error = _setting(manifest, k)
    sample = Sample(reader.vectors.read(rows), rows)
    recall, error = recall_at(over, sample, k, setting.nprobe, setting.candidate_depth)
    if expected is not None:
        expected = max(0.0, expected - _ERRORS_BELOW * float(np.hypot(error, known_error)) - _ROUNDING)
    return SampledRecall(len(rows), k, setting.nprobe, setting.candidate_depth, recall, error, expected)


def _setting(manifest: Manifest, k: int) -> tuple[Setting, float | None, float]:
    """(setting, the recall that was measured with it, standard error of that), of what searches use when not told."""
    curve = manifest.operating_curve
    spec = manifest.index
    if spec.kind == "flat":
        return Setting(1, 4 * k + 32), 1.0, 0.0
    if curve is None:
        return Setting(spec.default_nprobe, 100), None, 0.0
    points = curve.curve_for(k).points
    point = next((point for point in points if point.assured >= _USUAL_RECALL), points[-1])
    # Of queries that are distributed otherwise, or passages that have changed since, the curve promises nothing.
    same = curve.source == "passages" and curve.passages == manifest.passages
    return Setting(point.nprobe, point.candidate_depth), point.recall if same else None, point.recall_error


def _orphans(store: Path, named: Iterable[str]) -> tuple[str, ...]:
    known = {*named, MANIFEST_NAME, LOCK_NAME}
    found = (path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file())
    return tuple(sorted(path for path in found if path not in known))


def _copy_name(generation: int) -> str:
    return generation_path(Path(), generation).as_posix()
