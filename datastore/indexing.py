"""The index over finished segments: a template trained on a sample of them all, and each one's codes by it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datastore.ann.index import train_template
from datastore.ann.spec import IndexSpec
from datastore.devices import DeviceChoice
from datastore.segmenting import Counts
from datastore.store.durable import fsync_path
from datastore.store.manifest import SegmentRecord
from datastore.store.segment import SEGMENTS_FOLDER, VECTORS
from datastore.store.vectors import VectorFile


def write_index(
    store: Path, spec: IndexSpec, records: Sequence[SegmentRecord], counts: Counts, device: DeviceChoice
) -> Path | None:
    """Train the shared template and encode every segment with it; return the template's file, if its kind has one."""
    folders = [store / SEGMENTS_FOLDER / record.segment_id for record in records]
    files = [
        VectorFile(folder / VECTORS, record.passages, spec.dimension)
        for folder, record in zip(folders, records, strict=True)
    ]
    try:
        counts.tell("index", 0)
        template = train_template(spec, _training_sample(files, spec), device)
        done = 0
        for folder, vectors in zip(folders, files, strict=True):
            template.write_segment(vectors.blocks(), folder / spec.codes_name)
            done += vectors.rows
            counts.tell("index", done)
    finally:
        for vectors in files:
            vectors.close()
    path = store / spec.template_name
    if not template.save(path):
        return None
    fsync_path(path)
    return path


def _training_sample(files: Sequence[VectorFile], spec: IndexSpec) -> NDArray[np.float32]:
    """`spec.train_vectors` rows, float32, drawn without replacement by the seed, in row order."""
    total = sum(vectors.rows for vectors in files)
    chosen = np.sort(np.random.default_rng(spec.seed).choice(total, spec.train_vectors, replace=False))
    sample = np.empty((len(chosen), spec.dimension), np.float32)
    start = 0
    for vectors in files:
        first, end = np.searchsorted(chosen, [start, start + vectors.rows])
        sample[first:end] = vectors.read(chosen[first:end] - start)
        start += vectors.rows
    return sample
