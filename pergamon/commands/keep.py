"""`pergamon add`, `update`, `delete` and `compact`: a datastore after it was built."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from datastore.devices import parse_device
from datastore.keeping.addition import Addition
from datastore.keeping.addition import add as add_documents
from datastore.keeping.compaction import compact as compact_datastore
from datastore.keeping.deletion import delete as delete_documents
from datastore.keeping.ids import read_document_ids
from datastore.store.manifest import Manifest
from datastore.tasks.progress import BuildProgress
from pergamon import options
from pergamon.output import ERRORS, print_json, progress_bar

ADD_EXAMPLES = """
**Examples**

`pergamon add my.store --input more.jsonl`

`pergamon add my.store --input notes/ --input papers.jsonl.zst --json`
"""
UPDATE_EXAMPLES = """
**Example**

`pergamon update my.store --input changed.jsonl`
"""
DELETE_EXAMPLES = """
**Examples**

`pergamon delete my.store --document-ids old.txt`

`pergamon delete my.store --where "year < 1990"`

`jq .id gone.jsonl | pergamon delete my.store --document-ids -`
"""
COMPACT_EXAMPLES = """
**Examples**

`pergamon compact my.store`

`pergamon compact my.store --retrain`
"""

_Store = Annotated[Path, typer.Argument(help="The folder of a datastore.")]
_Inputs = Annotated[list[str], typer.Option("--input", help="As for build; may be given more than once.")]
_STAGES = {"merge": "rewriting passages", "index": "training and encoding", "truth": "comparing", "sweep": "measuring"}


def add(
    store: _Store,
    inputs: _Inputs,
    encoder: options.Encoder = None,
    device: options.Device = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Add documents to a datastore: encoded, chunked and indexed as the others are.

    Documents whose id the datastore has already are left out and counted; `update` puts them in the place of those. So
    are documents whose text it has under another id, where it was built with `--deduplicate`.
    """
    _add(store, inputs, encoder, device, replace_known=False, as_json=as_json)


def update(
    store: _Store,
    inputs: _Inputs,
    encoder: options.Encoder = None,
    device: options.Device = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Add documents to a datastore, each in the place of the one that has its id, if there is one."""
    _add(store, inputs, encoder, device, replace_known=True, as_json=as_json)


def delete(
    store: _Store,
    document_ids: Annotated[
        str | None,
        typer.Option("--document-ids", help="A file of ids, one a line or as JSON Lines; - reads standard input."),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option("--where", help="Documents for any passage of which this is true, as `year < 1990`."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Delete documents: no search that begins after this finds them. `compact` takes them from the disk, too.

    Ids that the datastore does not have are counted and no error, so that a deletion may be repeated.
    """
    if (document_ids is None) == (where is None):
        raise typer.BadParameter("give either --document-ids or --where")
    started = time.monotonic()
    ids = None if document_ids is None else read_document_ids(document_ids)
    done = delete_documents(store, document_ids=ids, where=where)
    seconds = time.monotonic() - started
    if as_json:
        print_json(
            {
                "store": str(store),
                "generation": done.generation,
                "documents_deleted": done.documents,
                "passages_deleted": done.passages,
                "unknown": done.unknown,
                "seconds": round(seconds, 3),
            }
        )
        return
    if done.unknown:
        more = ", …" if done.unknown > len(done.unknown_ids) else ""
        named = ", ".join(map(repr, done.unknown_ids))
        ERRORS.print(f"not in the datastore: {done.unknown:,} ids: {named}{more}", markup=False)
    ERRORS.print(
        f"deleted {done.documents:,} documents ({done.passages:,} passages) from {store}, now generation "
        f"{done.generation}, in {seconds:.1f} s",
        markup=False,
    )


def compact(
    store: _Store,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train the index anew, for what the datastore holds now.")
    ] = False,
    device: options.Device = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Take deleted passages from the disk, and put small segments together."""
    started = time.monotonic()
    with progress_bar() as progress:
        task = progress.add_task("opening", total=None)

        def show(stage: str, done: int, total: int) -> None:
            progress.update(task, description=_STAGES[stage], completed=done, total=total)

        done = compact_datastore(store, retrain=retrain, device=parse_device(device), on_progress=show)
    seconds = time.monotonic() - started
    before, after = done.before, done.manifest
    if as_json:
        print_json(
            {
                "store": str(store),
                **_counts(after),
                "segments_before": len(before.segments),
                "segments_rewritten": done.rewritten_segments,
                "passages_removed": before.rows - after.rows,
                "retrained": done.retrained,
                "held_generations": done.held_generations,
                "seconds": round(seconds, 3),
            }
        )
        return
    if after.generation == before.generation:
        ERRORS.print(f"{store} is compact already, at generation {after.generation}", markup=False)
    else:
        ERRORS.print(
            f"compacted {store}, now generation {after.generation}: {len(before.segments)} segments are "
            f"{len(after.segments)}, {before.rows - after.rows:,} deleted passages are gone"
            + (f"; index: {after.index.describe()}" if done.retrained else "")
            + f", in {seconds:.1f} s",
            markup=False,
        )
    if done.held_generations:
        ERRORS.print(
            f"{done.held_generations} earlier generations are still being read: their files go with the next change "
            "after their readers, or when this is run again",
            markup=False,
        )


def _add(
    store: Path, inputs: list[str], encoder: str | None, device: str, *, replace_known: bool, as_json: bool
) -> None:
    chosen = parse_device(device)
    started = time.monotonic()
    with progress_bar() as progress:
        task = progress.add_task("starting", total=None)

        def show(step: BuildProgress) -> None:
            note = f"{step.stage}: {step.documents:,} documents, {step.rejected:,} left out, passages"
            progress.update(task, description=note, completed=step.passages)

        done = add_documents(
            store, inputs, replace_known=replace_known, encoder=encoder, device=chosen, on_progress=show
        )
    _report_addition(store, done, time.monotonic() - started, as_json)


def _report_addition(store: Path, done: Addition, seconds: float, as_json: bool) -> None:
    manifest, rejects = done.manifest, done.rejects
    if as_json:
        print_json(
            {
                "store": str(store),
                **_counts(manifest),
                "documents_added": done.documents,
                "passages_added": done.passages,
                "documents_replaced": done.replaced,
                "duplicates": done.known,
                "rejected": rejects.total,
                "rejected_by_reason": rejects.by_reason,
                "rejects_file": str(store / rejects.file.path) if rejects.file else None,
                "segments_merged": done.merged_segments,
                "retrain": manifest.drift.retrain if manifest.drift else "",
                "seconds": round(seconds, 3),
            }
        )
        return
    if done.known:
        ERRORS.print(
            f"left out {done.known:,} documents whose ids the datastore has: pergamon update puts them in the place of "
            "those",
            markup=False,
        )
    if rejects.total > done.known and rejects.file is not None:
        ERRORS.print(f"rejected {rejects.total - done.known:,}: see {store / rejects.file.path}", markup=False)
    replaced = min(done.replaced, done.documents)
    ERRORS.print(
        f"added {done.documents:,} documents ({done.passages:,} passages)"
        + (f", {replaced:,} of them in the place of older ones" if replaced else "")
        + f" to {store}, now generation {manifest.generation} with {manifest.passages:,} passages in "
        f"{len(manifest.segments)} segments, in {seconds:.1f} s",
        markup=False,
    )
    if done.replaced > replaced:
        ERRORS.print(
            f"{done.replaced - replaced:,} more older ones are gone: what they have become was left out", markup=False
        )
    if manifest.drift is not None and manifest.drift.retrain:
        ERRORS.print(f"{manifest.drift.retrain}: pergamon compact --retrain", markup=False)


def _counts(manifest: Manifest) -> Mapping[str, Any]:
    return {
        "generation": manifest.generation,
        "documents": manifest.documents,
        "passages": manifest.passages,
        "segments": len(manifest.segments),
    }
