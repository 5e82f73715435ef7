"""What codes find for the memory that they take: kinds, lengths and copies over the same lists.

`python -m bench.ann.codes --dataset DIR [--passages 131072]` prints a table of recall@10 after an exact rerank, by how
many lists are read and how many candidates are reranked. No times: those are `pergamon bench ann`'s.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from bench.ann.dataset import open_dataset
from bench.ann.truth import exact_neighbours, recall
from datastore.ann.index import AnnIndex, candidates, train_template
from datastore.ann.memory import index_bytes
from datastore.ann.spec import IndexSpec, choose_index
from datastore.config import IndexConfig
from datastore.store.exact import ExactVectors
from datastore.store.vectors import VectorFile, VectorWriter

SETTINGS = ((0.0125, 20), (0.0125, 50), (0.05, 10), (0.05, 20), (0.05, 50), (0.05, 100))
"""(share of the lists that is read, candidates)."""
_K = 10
_BLOCK = 16_384


def variants(dimension: int) -> list[IndexConfig]:
    """In two lists and in one: product codes of 3/16 of the dimension in bytes and shorter ones, RaBitQ's of one bit;
    and in one list, of two bits."""
    whole = 3 * dimension // 16 * 2
    chosen: list[dict[str, Any]] = [
        *(
            {"kind": "ivf-pq4", "pq_m": whole * sixths // 12 * 2, "copies": copies}
            for copies in (2, 1)
            for sixths in (6, 5, 4)
        ),
        *({"kind": "ivf-rabitq", "copies": copies} for copies in (2, 1)),
        {"kind": "ivf-rabitq", "copies": 1, "bits": 2},
    ]
    return [IndexConfig(**settings) for settings in chosen]


def build(spec: IndexSpec, base: NDArray[np.float16], stored: VectorFile, folder: Path) -> AnnIndex:
    sample = np.sort(np.random.default_rng(spec.seed).choice(len(base), spec.train_vectors, replace=False))
    template = train_template(spec, base[sample].astype(np.float32))
    template.write_segment((base[at : at + _BLOCK] for at in range(0, len(base), _BLOCK)), folder / "codes")
    return template.open([folder / "codes"], [stored])


def found(
    index: AnnIndex, exact: ExactVectors, queries: NDArray[np.float32], depth: int, nprobe: int
) -> NDArray[np.float32]:
    """Exact scores of the best ten of so many candidates, [queries, 10]; minus infinity beyond them."""
    best = np.full((len(queries), _K), -np.inf, np.float32)
    rows = candidates(index, queries, depth, nprobe)
    for mine, scores in zip(best, exact.scores(queries, rows), strict=True):
        top = np.sort(scores)[::-1][:_K]
        mine[: len(top)] = top
    return best


def table(base: NDArray[np.float16], queries: NDArray[np.float32], settings: Sequence[IndexConfig]) -> list[list[str]]:
    """A row for each setting: its codes, bytes of memory a vector, and recall at each of SETTINGS."""
    _, truth = exact_neighbours(base, queries, _K)
    rows = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        writer = VectorWriter(folder / "vectors", base.shape[1])
        for start in range(0, len(base), _BLOCK):
            writer.add(base[start : start + _BLOCK].astype(np.float32))
        writer.close()
        with VectorFile(folder / "vectors", *base.shape) as stored:
            exact = ExactVectors([stored], base.shape[1])
            for config in settings:
                spec = choose_index(config, *base.shape)
                index = build(spec, base, stored, folder)
                name = f"{spec.kind}, {spec.bits} bits" if spec.bits > 1 else spec.kind
                size = index_bytes(spec, len(base)) - index_bytes(spec, 0)
                cells = [
                    recall(found(index, exact, queries, depth, max(1, round(share * spec.nlist))), truth, _K)
                    for share, depth in SETTINGS
                ]
                rows.append(
                    [
                        name,
                        str(spec.copies),
                        str(spec.code_bytes),
                        f"{size / len(base):.0f}",
                        *(f"{c:.4f}" for c in cells),
                    ]
                )
    return rows


def main(
    dataset: Annotated[Path, typer.Option(help="A dataset of `pergamon bench ann`.")],
    passages: Annotated[int, typer.Option(help="Of its vectors, the first so many.")] = 131_072,
    queries: int = 500,
) -> None:
    data = open_dataset(dataset)
    base = np.asarray(data.base[:passages])
    heads = [f"{share:.2%} of lists, {depth} candidates" for share, depth in SETTINGS]
    typer.echo("| " + " | ".join(["codes", "copies", "bytes a code", "bytes a vector", *heads]) + " |")
    typer.echo("| --- | ---: " + "| ---: " * (2 + len(heads)) + "|")
    for row in table(base, data.queries[:queries], variants(base.shape[1])):
        typer.echo("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    typer.run(main)
