"""How well the lists of an index fit what was added since it was trained, and when it should be trained again.

A passage's residual is 1 - <x, c> / |x|, c being the nearest centroid: it decides how many lists must be read to find
the passage and how much its code, which is of what the centroid leaves, is off. The mean residual of what was added,
as a multiple of that of what the template was trained on, is the drift: 1 where new text is like the old.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datastore.ann.drift import Drift
from datastore.ann.index import ListTemplate, Template
from datastore.store.deletions import read_deleted
from datastore.store.manifest import Manifest, SegmentRecord
from datastore.store.segment import SEGMENTS_FOLDER, VECTORS
from datastore.store.vectors import VectorFile

_SAMPLE = 4096


def measured(store: Path, manifest: Manifest, template: Template, new: Sequence[SegmentRecord]) -> Drift | None:
    """The drift after `new` segments come to those of `manifest`; None for an index without lists."""
    if not isinstance(template, ListTemplate):
        return None
    before = manifest.drift
    if before is None:  # nothing was added since the training
        residual = _residual(store, manifest, template, manifest.segments)
        before = Drift(residual, manifest.passages, 0.0, 0)
    return before.plus(_residual(store, manifest, template, new), sum(record.passages for record in new))


def _residual(store: Path, manifest: Manifest, template: ListTemplate, records: Sequence[SegmentRecord]) -> float:
    """Mean over a sample of live passages; 0 for none."""
    live = [np.flatnonzero(~read_deleted(store, record)) for record in records]
    total = sum(map(len, live))
    chosen = np.sort(np.random.default_rng(manifest.index.seed).choice(total, min(total, _SAMPLE), replace=False))
    residuals: list[NDArray[np.float32]] = []
    start = 0
    for record, rows in zip(records, live, strict=True):
        first, end = np.searchsorted(chosen, [start, start + len(rows)])
        path = store / SEGMENTS_FOLDER / record.segment_id / VECTORS
        with VectorFile(path, record.passages, manifest.index.dimension) as vectors:
            residuals.append(_residuals(template, vectors.read(rows[chosen[first:end] - start])))
        start += len(rows)
    found = np.concatenate([np.empty(0, np.float32), *residuals])
    return float(found.mean()) if len(found) else 0.0


def _residuals(template: ListTemplate, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.maximum(np.linalg.norm(vectors, axis=1), 1e-12)
    residuals: NDArray[np.float32] = 1.0 - template.nearest_products(vectors) / lengths
    return residuals
