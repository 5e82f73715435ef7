"""The index over finished segments: a template trained on a sample of them all, and each one's codes by it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datastore.ann import index
from datastore.ann.index import Template, load_template, train_template
from datastore.ann.spec import IndexSpec
from datastore.devices import CPU, DeviceChoice
from datastore.store.checksums import check_file
from datastore.store.durable import fsync_path
from datastore.store.manifest import Manifest, SegmentRecord
from datastore.store.segment import SEGMENTS_FOLDER, VECTORS
from datastore.store.vectors import VectorFile


def write_template(
    store: Path, spec: IndexSpec, records: Sequence[SegmentRecord], device: DeviceChoice, *, name: str | None = None
) -> Path | None:
    """Train what all segments share on a sample of their vectors; return its file, if its kind has one.

    Args:
        name: of the file; None for the one that its kind has in a first generation.
    """
    template = train_template(spec, _training_sample(store, spec, records), device)
    path = store / (name or spec.template_name)
    if not template.save(path):
        return None
    fsync_path(path)
    return path


def open_template(store: Path, manifest: Manifest, device: DeviceChoice = CPU) -> Template:
    """The datastore's own template; DataLoss unless its file is what was written."""
    if manifest.template is None:
        return load_template(manifest.index, None, device)
    check_file(store, manifest.template)
    return load_template(manifest.index, store / manifest.template.path, device)


def write_codes(store: Path, spec: IndexSpec, template: Template, record: SegmentRecord) -> None:
    """Put the vectors of a segment into the lists of `template`, and write its codes."""
    folder = store / SEGMENTS_FOLDER / record.segment_id
    with VectorFile(folder / VECTORS, record.passages, spec.dimension) as vectors:
        index.write_codes(template, vectors.blocks(), folder / spec.codes_name)


def _training_sample(store: Path, spec: IndexSpec, records: Sequence[SegmentRecord]) -> NDArray[np.float32]:
    """`spec.train_vectors` rows, float32, drawn without replacement by the seed, in row order."""
    total = sum(record.passages for record in records)
    chosen = np.sort(np.random.default_rng(spec.seed).choice(total, spec.train_vectors, replace=False))
    sample = np.empty((len(chosen), spec.dimension), np.float32)
    start = 0
    for record in records:
        path = store / SEGMENTS_FOLDER / record.segment_id / VECTORS
        with VectorFile(path, record.passages, spec.dimension) as vectors:
            first, end = np.searchsorted(chosen, [start, start + record.passages])
            sample[first:end] = vectors.read(chosen[first:end] - start)
        start += record.passages
    return sample
