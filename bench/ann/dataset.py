"""Vectors for an ANN benchmark: base, queries, and the exact nearest neighbours of the queries.

A dataset is a folder: `base.npy` (float16 [n, dimension]), `queries.npy` (float32 [m, dimension]), `truth_ids.npy`
(int64 [t, depth]) and `truth_scores.npy` (float32 [t, depth], best first) for the first t queries, and `dataset.json`,
which says where they came from. It is made of any input that a datastore is built from, with any of its encoders, or of
two `.npy` files. Queries are passages held out, so base and queries have one distribution. Memory does not grow with
the base, but for 100 bytes a text, by which repeats are known.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from bench.ann.truth import exact_neighbours
from datastore.chunking.words import chunk_words
from datastore.config import EncoderConfig
from datastore.encoders.registry import open_encoder
from datastore.errors import InvalidArgument, NotFound
from datastore.sources.inputs import open_inputs
from datastore.sources.rejects import Rejects

TRUTH_DEPTH = 200
_TEXTS_AT_ONCE = 8192
_ROWS_AT_ONCE = 1 << 19


@dataclass(frozen=True, slots=True)
class Dataset:
    """`base` float16 [n, dimension] is mapped; the truth is of the first len(truth_ids) queries."""

    folder: Path
    base: NDArray[np.float16]
    queries: NDArray[np.float32]
    truth_ids: NDArray[np.int64]
    truth_scores: NDArray[np.float32]
    about: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DatasetPlan:
    """How large, and drawn how. `vectors` None takes all that the queries leave."""

    vectors: int | None = None
    queries: int = 10_000
    truth_queries: int = 2_000
    passage_words: tuple[int, ...] = (256,)
    """Of a passage at most, as in a build; 0 keeps documents whole. Several cut every document several times, where one
    size gives too few passages: fine ones then lie beside the coarse ones that they are part of."""
    seed: int = 0


def embed_inputs(
    inputs: Sequence[str],
    encoder_config: EncoderConfig,
    plan: DatasetPlan,
    folder: Path,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Dataset:
    """Embed the passages of `inputs`, exact duplicates of a text once, shuffle them, and hold out the queries.

    Raises:
        InvalidArgument: fewer passages than the plan wants.
    """
    encoder = open_encoder(encoder_config)
    folder.mkdir(parents=True, exist_ok=True)
    raw = folder / "embedded.f16"
    found = 0
    with raw.open("wb") as file, Rejects(folder / "rejects.jsonl") as rejects:
        texts = _distinct_texts(inputs, plan.passage_words, rejects)
        while block := list(islice(texts, _TEXTS_AT_ONCE)):
            file.write(np.asarray(encoder.encode_passages(block), "<f2").tobytes())
            found += len(block)
            on_progress(found)
    dimension = encoder.fingerprint.dimension
    vectors = np.memmap(raw, "<f2", "r", shape=(found, dimension)) if found else np.empty((0, dimension), "<f2")
    wanted = plan.queries + (plan.vectors or 1)
    if found < wanted:
        raise InvalidArgument(
            f"the input has {found} distinct passages; {wanted} are wanted, queries included",
            mend="give more input, or ask for fewer vectors or queries",
        )
    order = np.random.default_rng(plan.seed).permutation(found)
    held_out, kept = order[: plan.queries], order[plan.queries :][: plan.vectors]
    _write_base(folder, (_gather(vectors, rows) for rows in _parts(kept)), len(kept), dimension)
    queries = _gather(vectors, held_out).astype(np.float32)
    raw.unlink()
    about = {
        "inputs": [Path(value).name for value in inputs],
        "passage_words": list(plan.passage_words),
        "distinct_passages": found,
        "encoder": asdict(encoder.fingerprint),
        "seed": plan.seed,
    }
    return _finish(folder, queries, plan.truth_queries, about)


def take_arrays(vectors: Path, queries: Path, plan: DatasetPlan, folder: Path) -> Dataset:
    """A dataset of two `.npy` files of floats, [n, dimension] and [m, dimension]; of them as many rows as wanted."""
    base, asked = _load(vectors), _load(queries)
    if base.ndim != 2 or asked.ndim != 2 or base.shape[1] != asked.shape[1] or not len(base) or not len(asked):
        raise InvalidArgument(
            f"{vectors} has the shape {base.shape} and {queries} {asked.shape}; wanted rows of one dimension",
            mend="save both from the same encoder",
        )
    base = base[: plan.vectors]
    folder.mkdir(parents=True, exist_ok=True)
    _write_base(folder, (_as_float16(part, vectors) for part in _parts(base)), *base.shape)
    about = {"vectors": vectors.name, "queries": queries.name}
    return _finish(folder, np.asarray(asked[: plan.queries], np.float32), plan.truth_queries, about)


def take_first(dataset: Dataset, vectors: int, folder: Path) -> Dataset:
    """The dataset of the first vectors of another, which a shuffle put there, with the same queries.

    Raises:
        InvalidArgument: the other has fewer.
    """
    if not 0 < vectors <= len(dataset.base):
        raise InvalidArgument(
            f"{vectors} vectors are wanted of {dataset.folder}, which has {len(dataset.base)}",
            mend="ask for fewer, or make a larger dataset",
            field="sizes",
        )
    folder.mkdir(parents=True, exist_ok=True)
    _write_base(folder, _parts(dataset.base[:vectors]), vectors, dataset.base.shape[1])
    about = {**dataset.about, "first_of": len(dataset.base)}
    return _finish(folder, dataset.queries, len(dataset.truth_ids), about)


def _write_base(folder: Path, parts: Iterable[NDArray[np.float16]], rows: int, dimension: int) -> None:
    header = {"descr": "<f2", "fortran_order": False, "shape": (rows, dimension)}
    (folder / "dataset.json").unlink(missing_ok=True)
    unfinished = folder / "base.unfinished"  # the parts may come from an earlier base.npy
    with unfinished.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(np.ascontiguousarray(part, "<f2").data)
    unfinished.replace(folder / "base.npy")


def _parts(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(array), _ROWS_AT_ONCE):
        yield array[start : start + _ROWS_AT_ONCE]


def _as_float16(part: NDArray[Any], path: Path) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        rounded = np.asarray(part, "<f2")
    if not np.isfinite(rounded).all():
        raise InvalidArgument(f"{path} has values without a float16", mend="normalize the vectors")
    return rounded


def _finish(folder: Path, queries: NDArray[np.float32], truth_queries: int, about: dict[str, Any]) -> Dataset:
    """Find the exact neighbours in the base that is there and write all but it; `dataset.json` comes last, so a folder
    that has it is whole."""
    base = np.load(folder / "base.npy", mmap_mode="r")
    ids, scores = exact_neighbours(base, queries[:truth_queries], TRUTH_DEPTH)
    np.save(folder / "queries.npy", queries)
    np.save(folder / "truth_ids.npy", ids)
    np.save(folder / "truth_scores.npy", scores)
    shape = {"vectors_count": len(base), "queries_count": len(queries), "dimension": int(base.shape[1])}
    (folder / "dataset.json").write_text(json.dumps({**about, **shape}, indent=1), encoding="utf-8")
    return open_dataset(folder)


def open_dataset(folder: Path) -> Dataset:
    """A dataset made before.

    Raises:
        NotFound: the folder holds none, or a part of one.
    """
    try:
        about = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        base = np.load(folder / "base.npy", mmap_mode="r")
        queries, ids, scores = (np.load(folder / f"{name}.npy") for name in ("queries", "truth_ids", "truth_scores"))
    except (OSError, ValueError) as error:
        raise NotFound(f"{folder} holds no whole dataset: {error}", mend="make it again") from None
    return Dataset(folder, base, queries, ids, scores, about)


def _distinct_texts(inputs: Sequence[str], sizes: Sequence[int], rejects: Rejects) -> Iterator[str]:
    seen: set[bytes] = set()
    for document in open_inputs(inputs, rejects):
        for passage in chain.from_iterable(chunk_words(document, words) for words in sizes):
            text = passage.indexed_text
            digest = xxhash.xxh3_128_digest(text.encode(errors="surrogatepass"))
            if digest not in seen:
                seen.add(digest)
                yield text


def _gather(vectors: NDArray[np.float16], rows: NDArray[np.int64]) -> NDArray[np.float16]:
    """The rows in the order asked, read in the order of the file: or each would be a read of its own."""
    gathered = np.empty((len(rows), vectors.shape[1]), "<f2")
    by_place = np.argsort(rows)
    for start in range(0, len(rows), _TEXTS_AT_ONCE):
        part = by_place[start : start + _TEXTS_AT_ONCE]
        gathered[part] = vectors[rows[part]]
    return gathered


def _load(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise NotFound(f"{path} cannot be read as an array: {error}", mend="give a .npy file of floats") from None
    if array.dtype.kind != "f":
        raise InvalidArgument(f"{path} holds {array.dtype}; wanted float16 or float32", mend="save floats")
    return array
