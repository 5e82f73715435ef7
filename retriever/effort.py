"""How much of its index a shard looks at for a dense query: what the query says, or what its recall takes."""

from __future__ import annotations

from datastore.errors import FailedPrecondition
from datastore.store.manifest import Manifest
from retriever.shard import DenseQuery

DEFAULT_RECALL = 0.95
"""What a query that says nothing gets, where the datastore's operating curve reaches it."""


def effort(manifest: Manifest, query: DenseQuery, k: int) -> tuple[int | None, int | None]:
    """(candidate depth, probes) of a search for the best `k`; None leaves either to the index's own default.

    Every shard comes to the same: the curve is the datastore's. A shard reads the lists of its own segments alone, so
    that the candidates of all shards together are no fewer than those of one with all segments.

    Raises:
        FailedPrecondition: a recall is asked for, and the datastore has no curve.
        InvalidArgument: the curve does not reach the recall.
    """
    curve = manifest.operating_curve
    if query.recall is None:
        if query.nprobe is not None or curve is None or curve.curve_for(k).highest < DEFAULT_RECALL:
            return query.candidate_depth, query.nprobe
        usual = curve.setting(k, DEFAULT_RECALL)
        return query.candidate_depth or usual.candidate_depth, usual.nprobe
    if manifest.index.kind == "flat":
        return None, None
    if curve is None:
        raise FailedPrecondition(
            f"recall is {query.recall:g}; it was not measured what that takes on this datastore",
            mend="run pergamon tune STORE; or choose nprobe and candidate_depth yourself",
            field="recall",
        )
    setting = curve.setting(k, query.recall)
    return setting.candidate_depth, setting.nprobe
