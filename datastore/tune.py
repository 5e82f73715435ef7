"""Measuring a datastore's operating curve and keeping it with the datastore, so that a search may ask for a recall."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datastore.ann.operating_curve import OperatingCurve
from datastore.ann.spec import IndexSpec
from datastore.ann.sweep import OnProgress, OpenIndex, Sample, measure_curves
from datastore.encoders.registry import Encoder, open_query_encoder
from datastore.errors import InvalidArgument
from datastore.filters.survivors import Survivors, joined
from datastore.indexing import open_template
from datastore.store.deletions import read_live
from datastore.store.exact import ExactVectors
from datastore.store.generations import writing
from datastore.store.manifest import Manifest, SegmentRecord, publish, succeeding
from datastore.store.segment import SEGMENTS_FOLDER, VECTORS
from datastore.store.vectors import VectorFile

MEASURED_PASSAGES = 1 << 24
"""Of a larger datastore a sample of segments is measured over: exact search of all would take hours."""
DEFAULT_KS = (10, 100)
MAX_QUERIES = 100_000
MAX_MEASURED_K = 1000


@dataclass(frozen=True, slots=True)
class TuneOptions:
    """How to measure."""

    queries: int = 1000
    """At most: stored vectors, or of the texts given."""
    ks: tuple[int, ...] = DEFAULT_KS
    seed: int = 0
    """Of the sample of queries, and of segments."""
    max_passages: int = MEASURED_PASSAGES
    """Segments are drawn until they have so many passages."""

    def validate(self) -> None:
        """Raise InvalidArgument, naming the field, unless every value is within its bounds."""
        for name, value, high in (
            ("sample", self.queries, MAX_QUERIES),
            ("max_passages", self.max_passages, 1 << 40),
            *(("k", k, MAX_MEASURED_K) for k in self.ks or (0,)),
        ):
            if not 1 <= value <= high:
                raise InvalidArgument(
                    f"{name} is {value}; it must be between 1 and {high}",
                    mend=f"pass a {name} in that range",
                    field=name,
                )
        if not 0 <= self.seed < 1 << 31:
            raise InvalidArgument(
                f"seed is {self.seed}; it must be between 0 and {(1 << 31) - 1}",
                mend="pass a seed in that range",
                field="seed",
            )


def tune(
    store: Path,
    options: TuneOptions,
    *,
    texts: Sequence[str] | None = None,
    encoder: str | None = None,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> Manifest:
    """Measure the operating curve and publish it as a new generation of the same segments; return that.

    A flat index finds everything and has no curve: its manifest is returned as it is.

    Args:
        texts: real queries, from which the sample is drawn; None draws stored vectors. Those are distributed otherwise
            than what users ask, so that the recall that they promise may be missed by some points.
        encoder: where to load the store's encoder from, which `texts` need; None takes it from where the build did.

    Raises:
        InvalidArgument: an option out of its bounds, or a k that is not less than the passages measured over.
        FailedPrecondition: `encoder` is not the store's.
        Unavailable: another process is writing to the store.
    """
    options.validate()
    with writing(store) as manifest:
        if manifest.index.kind == "flat":
            return manifest
        sample = None
        if texts is not None:
            sample = _sample_texts(_with_words(texts), open_query_encoder(manifest.encoder, encoder), options)
        curve = measure(store, manifest, options, sample, on_progress)
        tuned = succeeding(manifest, operating_curve=curve)
        publish(store, tuned)
    return tuned


def measure(
    store: Path,
    manifest: Manifest,
    options: TuneOptions,
    sample: Sample | None = None,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> OperatingCurve:
    """The operating curve of the segments that `manifest`, which need not be published, names; not of a flat index.

    Args:
        sample: real queries; None draws stored vectors.
    """
    spec = manifest.index
    records = _sampled_segments(manifest.segments, options)
    with ExitStack() as opened:
        folders = [store / SEGMENTS_FOLDER / record.segment_id for record in records]
        files = [
            opened.enter_context(VectorFile(folder / VECTORS, record.passages, spec.dimension))
            for folder, record in zip(folders, records, strict=True)
        ]
        live = None
        if any(record.deletions for record in records):
            live = joined([read_live(store, record) for record in records])
        passages = sum(record.live_passages for record in records)
        ks = sorted(set(options.ks))
        if ks[-1] >= passages:
            raise InvalidArgument(
                f"k is {ks[-1]}; the {passages} passages measured over have {max(passages - 1, 0)} neighbours at most",
                mend="pass a smaller k",
                field="k",
            )
        template = open_template(store, manifest)
        index = template.open([folder / spec.codes_name for folder in folders], files)
        asked = _sample_passages(files, spec, options, live) if sample is None else sample
        return OperatingCurve(
            source="passages" if sample is None else "queries",
            queries=len(asked.vectors),
            seed=options.seed,
            generation=manifest.generation,
            passages=manifest.passages,
            measured_passages=passages,
            curves=measure_curves(OpenIndex(spec, index, files, live), asked, ks, on_progress),
        )


def _sampled_segments(segments: Sequence[SegmentRecord], options: TuneOptions) -> list[SegmentRecord]:
    """Drawn by the seed, until they have the passages wanted; in the order of the manifest."""
    chosen: list[int] = []
    passages = 0
    for position in np.random.default_rng(options.seed).permutation(len(segments)).tolist():
        if passages >= options.max_passages:
            break
        chosen.append(position)
        passages += segments[position].live_passages
    return [segments[position] for position in sorted(chosen)]


def _sample_passages(
    files: Sequence[VectorFile], spec: IndexSpec, options: TuneOptions, live: Survivors | None
) -> Sample:
    total = sum(file.rows for file in files) if live is None else live.count
    generator = np.random.default_rng(options.seed)
    rows = np.sort(generator.choice(total, min(options.queries, total), replace=False))
    if live is not None:
        rows = live.rows[rows]
    return Sample(ExactVectors(files, spec.dimension).read(rows), rows)


def _with_words(texts: Sequence[str]) -> list[str]:
    kept = [text for text in texts if text.strip()]
    if not kept:
        raise InvalidArgument(
            f"none of the {len(texts)} queries has any text", mend="give queries of at least one word", field="queries"
        )
    return kept


def _sample_texts(texts: Sequence[str], encoder: Encoder, options: TuneOptions) -> Sample:
    count = min(options.queries, len(texts))
    chosen = np.sort(np.random.default_rng(options.seed).choice(len(texts), count, replace=False))
    vectors = encoder.encode_queries([texts[place] for place in chosen.tolist()])
    return Sample(np.ascontiguousarray(vectors, np.float32), np.full(count, -1))
