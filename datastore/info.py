"""What a datastore is, in numbers: read from its manifest alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from datastore.ann.drift import Drift
from datastore.ann.gpu_plan import search_plan
from datastore.ann.memory import index_bytes
from datastore.ann.operating_curve import OperatingCurve
from datastore.ann.spec import CODES_NAMES, FLAT_MAX_PASSAGES
from datastore.encoders.fingerprint import EncoderFingerprint
from datastore.store.manifest import Manifest, read_manifest
from datastore.store.segment import BM25, COLUMNS, KEYS, PASSAGES, SEGMENTS_FOLDER, VECTORS, VECTORS_SUMS

_PARTS = {
    PASSAGES: "passages",
    VECTORS: "vectors",
    VECTORS_SUMS: "vectors",
    COLUMNS: "columns",
    BM25: "bm25",
    KEYS: "signatures",
} | dict.fromkeys(CODES_NAMES, "index")
"""Entry of a segment's folder -> what its bytes are counted as."""


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """Sizes are in bytes; tokens are the encoder's own."""

    store: str
    datastore_id: str
    format_version: int
    generation: int
    created: str
    documents: int
    passages: int
    words: int
    tokens: int
    truncated_passages: int
    deleted_documents: int
    """Until `compact`, words, tokens, truncated passages and bytes are those of deleted documents, too."""
    deleted_passages: int
    rejected: int
    segments: int
    encoder: EncoderFingerprint
    metric: str
    index: str
    index_reason: str
    index_memory_bytes: int
    """Of the index when it is open."""
    operating_curve: OperatingCurve | None
    """None where it was not measured what recall costs."""
    operating_curve_stale: bool
    """Whether the datastore has changed by a tenth since."""
    drift: Drift | None
    """None where nothing was added since the index was trained, or it has no lists."""
    retrain: str
    """Why the index should be trained anew (`compact --retrain`); empty where it need not."""
    bm25: Mapping[str, str | float]
    bytes_by_part: Mapping[str, int]
    bytes_total: int
    bytes_per_passage: float
    gpu_search: str
    """How GPUs search the index, or why they do not."""
    gpu_bytes: int | None
    """That this takes on one device; None where they do not."""


def describe_store(store: Path) -> StoreInfo:
    """Raises what `read_manifest` raises."""
    manifest = read_manifest(store)
    by_part = dict.fromkeys([*_PARTS.values(), "other"], 0)
    for record in manifest.files():
        folder, *rest = record.path.split("/")
        part = _PARTS.get(rest[1], "other") if folder == SEGMENTS_FOLDER and len(rest) > 1 else "other"
        if manifest.template is not None and record.path == manifest.template.path:
            part = "index"
        by_part[part] += record.bytes
    total = sum(by_part.values())
    settings, curve = manifest.config.bm25, manifest.operating_curve
    plan = search_plan(manifest.index, manifest.rows)
    return StoreInfo(
        store=str(store),
        datastore_id=manifest.datastore_id,
        format_version=manifest.format_version,
        generation=manifest.generation,
        created=manifest.created,
        documents=manifest.documents,
        passages=manifest.passages,
        words=sum(segment.words for segment in manifest.segments),
        tokens=sum(segment.tokens for segment in manifest.segments),
        truncated_passages=sum(segment.truncated_passages for segment in manifest.segments),
        deleted_documents=sum(segment.documents for segment in manifest.segments) - manifest.documents,
        deleted_passages=manifest.rows - manifest.passages,
        rejected=manifest.rejects.total,
        segments=len(manifest.segments),
        encoder=manifest.encoder,
        metric=manifest.metric,
        index=manifest.index.describe(),
        index_reason=manifest.index.reason,
        index_memory_bytes=index_bytes(manifest.index, manifest.rows),
        operating_curve=manifest.operating_curve,
        operating_curve_stale=curve is not None and curve.stale(manifest.passages),
        drift=manifest.drift,
        retrain=_retrain(manifest),
        bm25={"analyzer": settings.analyzer, "k1": settings.k1, "b": settings.b},
        bytes_by_part=by_part,
        bytes_total=total,
        bytes_per_passage=total / manifest.passages if manifest.passages else 0.0,
        gpu_search=plan if isinstance(plan, str) else plan.describe(),
        gpu_bytes=None if isinstance(plan, str) else plan.device_bytes,
    )


def _retrain(manifest: Manifest) -> str:
    grown = manifest.index.kind == "flat" and manifest.config.index.kind == "auto"
    if grown and manifest.passages > FLAT_MAX_PASSAGES:
        return f"{manifest.passages} passages are scanned whole: compact gives more than {FLAT_MAX_PASSAGES} an index"
    return manifest.drift.retrain if manifest.drift else ""
