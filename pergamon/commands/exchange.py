"""`pergamon export` and `import`: passages and vectors out of a datastore, and in from others' files."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from datastore.config import load_config
from datastore.devices import parse_device
from datastore.encoders.registry import open_encoder, settings_of
from datastore.errors import InvalidArgument
from datastore.exchange.export import export as export_datastore
from datastore.exchange.foreign import Batch, encoder_of_parquet, from_embeddings, from_faiss, from_parquet
from datastore.exchange.importing import import_passages
from pergamon import options
from pergamon.output import ERRORS, human_bytes, print_json, progress_bar, to_plain

EXPORT_EXAMPLES = """
**Examples**

`pergamon export my.store --out my-parquet`

`pergamon export my.store --out texts --vectors none`
"""
IMPORT_EXAMPLES = """
**Examples**

`pergamon import --parquet my-parquet --store my.store`

`pergamon import --passages raw_0.jsonl --embeddings passages_00.pkl --encoder facebook/contriever --store my.store`

`pergamon import --passages passages.jsonl --faiss index.faiss --encoder facebook/contriever --store my.store`
"""


class VectorsOption(StrEnum):
    """What `--vectors` takes."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    NONE = "none"


def export(
    store: Annotated[Path, typer.Argument(help="The folder of a datastore.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to make.")],
    vectors: Annotated[VectorsOption, typer.Option("--vectors", help="How vectors are written.")] = (
        VectorsOption.FLOAT32
    ),
    as_json: options.AsJson = False,
) -> None:
    """Write a datastore's passages and exact vectors to Parquet, a file for each segment."""
    with progress_bar() as progress:
        task = progress.add_task("passages", total=None)
        report = export_datastore(
            store,
            out,
            vectors=vectors.value,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if as_json:
        print_json(to_plain(report))
    else:
        ERRORS.print(
            f"exported {report.passages:,} passages of generation {report.generation} to {out}: "
            f"{len(report.files)} files, {human_bytes(report.bytes)}",
            markup=False,
        )


def import_(
    store: Annotated[Path, typer.Option("--store", help="The folder to make.")],
    parquet: Annotated[
        list[Path] | None, typer.Option("--parquet", help="A Parquet file with text and vector, or a folder of them.")
    ] = None,
    passages: Annotated[
        list[Path] | None, typer.Option("--passages", help="JSON Lines of passages; may be given more than once.")
    ] = None,
    embeddings: Annotated[
        list[Path] | None,
        typer.Option("--embeddings", help="Their embeddings, .npy or .pkl, one file for each --passages, in order."),
    ] = None,
    faiss: Annotated[
        Path | None, typer.Option("--faiss", help="A FAISS index whose row is the passage's line, instead.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="That made the vectors (default: what our own export says).")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="A TOML file of settings, as for build.")] = None,
    device: options.Device = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Make a datastore of passages whose vectors there are: of an export, MassiveDS, CompactDS, or a FAISS index.

    A sample of the passages is encoded and compared with the given vectors.
    """
    files = _parquet_files(parquet or [])
    batches, exact = _batches(files, passages or [], embeddings or [], faiss)
    chosen = parse_device(device)
    wanted: dict[str, Any] = {"name": encoder}
    if encoder is None and files and (described := encoder_of_parquet(files[0])) is not None:
        wanted = asdict(settings_of(described))
        del wanted["batch_size"]
    settings = load_config(config, {"encoder": wanted})
    opened = open_encoder(settings.encoder, chosen)
    started = time.monotonic()
    with progress_bar() as progress:
        task = progress.add_task("starting", total=None)
        report = import_passages(
            store,
            batches,
            settings,
            opened,
            exact=exact,
            device=chosen,
            on_progress=lambda stage, done: progress.update(task, description=stage, completed=done),
        )
    manifest, seconds = report.manifest, time.monotonic() - started
    if as_json:
        print_json(
            {
                "store": str(store),
                "generation": manifest.generation,
                "documents": manifest.documents,
                "passages": manifest.passages,
                "encoder": manifest.encoder.name,
                "index": manifest.index.describe(),
                "exact_vectors": report.exact,
                "checked_passages": report.checked,
                "mean_cosine": round(report.mean_cosine, 6),
                "seconds": round(seconds, 3),
            }
        )
        return
    ERRORS.print(
        f"imported {manifest.passages:,} passages into {store} in {seconds:.1f} s; {report.checked} of them encoded "
        f"again have a mean cosine of {report.mean_cosine:.4f} with their vectors",
        markup=False,
    )
    if not report.exact:
        ERRORS.print(
            "note: the vectors were decoded from the index's codes, so that scores are approximate; import embeddings "
            "for exact ones",
            markup=False,
        )


def _parquet_files(given: list[Path]) -> list[Path]:
    files = [file for path in given for file in (sorted(path.glob("*.parquet")) if path.is_dir() else [path])]
    if given and not files:
        raise InvalidArgument(
            f"there is no .parquet file in {', '.join(map(str, given))}", mend="check the path", field="parquet"
        )
    return files


def _batches(
    files: list[Path], passages: list[Path], embeddings: list[Path], faiss: Path | None
) -> tuple[Iterable[Batch], bool]:
    """(what is imported, whether its vectors are exact)."""
    if files and not (passages or embeddings or faiss):
        return from_parquet(files), True
    if passages and embeddings and not (files or faiss):
        return from_embeddings(passages, embeddings), True
    if passages and faiss and not (files or embeddings):
        from datastore.ann.kinds.library import StoredVectors

        return from_faiss(faiss, passages), StoredVectors(faiss).exact
    raise typer.BadParameter(
        "give --parquet; or --passages with --embeddings; or --passages with --faiss", param_hint="--passages"
    )
