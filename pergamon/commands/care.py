"""`pergamon repair`, `snapshot` and `restore`: a datastore made whole again, elsewhere, and back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from datastore.devices import parse_device
from datastore.errors import DataLoss
from datastore.repairing.repair import repair as repair_datastore
from datastore.snapshots.snapshot import SnapshotReport
from datastore.snapshots.snapshot import restore as restore_datastore
from datastore.snapshots.snapshot import snapshot as snapshot_datastore
from pergamon import options
from pergamon.output import ERRORS, human_bytes, print_json, progress_bar, to_plain

REPAIR_EXAMPLES = """
**Examples**

`pergamon repair my.store --dry-run`

`pergamon repair my.store`

`pergamon repair my.store --from s3://bucket/my.store`

`pergamon repair my.store --drop-damaged`
"""
_CHOICES = (
    "take it from a snapshot: --from SNAPSHOT; or leave out documents that cannot be read: --drop-damaged; or have "
    "documents again that were deleted: --bring-back-deleted"
)
SNAPSHOT_EXAMPLES = """
**Examples**

`pergamon snapshot my.store /backup/my.store`

`pergamon snapshot my.store s3://bucket/my.store --json`

`pergamon snapshot my.store s3://bucket/my.store --check`
"""
RESTORE_EXAMPLES = """
**Example**

`pergamon restore s3://bucket/my.store my.store`
"""

_Target = Annotated[str, typer.Argument(help="A folder, or a URL that fsspec reaches, as s3://bucket/path.")]


def repair(
    store: Annotated[Path, typer.Argument(help="The folder of a datastore.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; say what would be done.")] = False,
    drop_damaged: Annotated[
        bool, typer.Option("--drop-damaged", help="Leave out documents of which a passage cannot be read.")
    ] = False,
    bring_back: Annotated[
        bool,
        typer.Option(
            "--bring-back-deleted",
            help="Where it is no longer known which documents of a segment are deleted, have them all again.",
        ),
    ] = False,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="SNAPSHOT", help="Take what is damaged from a snapshot that has it whole."),
    ] = None,
    encoder: options.Encoder = None,
    device: options.Device = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Make what is damaged anew from what is whole, as a new generation, and verify it.

    BM25 index and columns are made of the passages, vectors by encoding them again, codes and template of the vectors.
    Leftovers of writers that died are removed.
    """
    report = repair_datastore(
        store,
        dry_run=dry_run,
        drop_damaged=drop_damaged,
        bring_back=bring_back,
        source=source,
        encoder=encoder,
        device=parse_device(device),
    )
    if as_json:
        print_json(to_plain(report))
    else:
        for action in report.actions:
            typer.echo(f"{action.path}: {action.what}")
        for problem in report.unrepaired[1:]:
            typer.echo(f"not repaired: {problem}", err=True)
        if not report.unrepaired:
            done = "would be sound" if dry_run else "is sound"
            typer.echo(f"{store} {done}, generation {report.generation}")
    if report.unrepaired:
        raise DataLoss(report.unrepaired[0], mend=_CHOICES)


def snapshot(
    store: Annotated[Path, typer.Argument(help="The folder of a datastore.")],
    target: _Target,
    check: Annotated[
        bool, typer.Option("--check", help="Read back every file at a URL, and send anew what is damaged there.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Copy a datastore's current generation elsewhere, byte for byte, while others read it and write to it.

    In a folder on the same file system, files are linked to and take no space. A snapshot that is there already is
    brought up to date: only new files are sent.
    """
    started = time.monotonic()
    with progress_bar() as progress:
        task = progress.add_task("bytes", total=None)
        report = snapshot_datastore(
            store, target, lambda done, total: progress.update(task, completed=done, total=total), check=check
        )
    _tell(f"{store} is at {target}", report, time.monotonic() - started, as_json)


def restore(
    target: _Target,
    store: Annotated[Path, typer.Argument(help="The folder to make.")],
    as_json: options.AsJson = False,
) -> None:
    """Make a datastore from a snapshot: the same, byte for byte, each file compared with its checksum."""
    started = time.monotonic()
    with progress_bar() as progress:
        task = progress.add_task("bytes", total=None)
        report = restore_datastore(
            target, store, lambda done, total: progress.update(task, completed=done, total=total)
        )
    _tell(f"{target} is in {store}", report, time.monotonic() - started, as_json)


def _tell(what: str, report: SnapshotReport, seconds: float, as_json: bool) -> None:
    if as_json:
        print_json({**to_plain(report), "seconds": round(seconds, 3)})
        return
    ERRORS.print(
        f"{what}: generation {report.generation}, {report.files:,} files of {human_bytes(report.bytes)}; "
        f"{report.files_sent:,} put there ({report.files_linked:,} linked, {human_bytes(report.bytes_sent)} sent) "
        f"in {seconds:.1f} s",
        markup=False,
    )
