from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.ann.dataset import Dataset, DatasetPlan, embed_inputs, open_dataset, take_arrays
from datastore.config import EncoderConfig
from datastore.encoders.registry import open_encoder
from datastore.errors import InvalidArgument, NotFound

HASHING = EncoderConfig("hashing")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """60 texts, each of them twice."""
    lines = [json.dumps({"id": f"d{i}", "text": f"passage {i % 60} of the harbour"}) for i in range(120)]
    path = tmp_path / "corpus.jsonl"
    path.write_text("\n".join(lines))
    return path


def test_embedded_from_text(corpus: Path, tmp_path: Path) -> None:
    plan = DatasetPlan(vectors=40, queries=15, truth_queries=10, seed=1)
    made = embed_inputs([str(corpus)], HASHING, plan, tmp_path / "made")
    assert made.base.shape == (40, 256)
    assert made.base.dtype == np.float16
    assert made.queries.shape == (15, 256)
    assert made.queries.dtype == np.float32
    assert made.truth_ids.shape == (10, 40)
    assert made.about["distinct_passages"] == 60
    vectors = open_encoder(HASHING).encode_passages([f"passage {i} of the harbour" for i in range(60)])
    drawn = np.concatenate([made.base.astype(np.float32), made.queries])
    nearest = (drawn @ vectors.T).argmax(axis=1)
    assert len(set(nearest.tolist())) == 55
    np.testing.assert_allclose(drawn, vectors[nearest], atol=1e-3)
    assert nearest.tolist() != sorted(nearest.tolist())


def test_the_seed_decides(corpus: Path, tmp_path: Path) -> None:
    bases = [
        np.array(embed_inputs([str(corpus)], HASHING, DatasetPlan(40, 5, 5, seed=seed), tmp_path / name).base)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    np.testing.assert_array_equal(bases[0], bases[1])
    assert not np.array_equal(bases[0], bases[2])


def test_too_little_text(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="60 distinct passages; 61 are wanted"):
        embed_inputs([str(corpus)], HASHING, DatasetPlan(vectors=51, queries=10), tmp_path / "made")


def test_taken_from_arrays(dataset: Dataset) -> None:
    assert dataset.base.shape == (5000, 32)
    products = dataset.queries @ dataset.base.astype(np.float32).T
    best = np.sort(products, axis=1)[:, ::-1][:, :200]
    np.testing.assert_allclose(dataset.truth_scores, best, atol=1e-6)
    again = open_dataset(dataset.folder)
    np.testing.assert_array_equal(again.truth_ids, dataset.truth_ids)


@pytest.mark.parametrize(
    ("base", "queries", "error", "message"),
    [
        (np.zeros((4, 3)), np.zeros((2, 2)), InvalidArgument, "one dimension"),
        (np.zeros((4, 3), np.int64), np.zeros((2, 3)), InvalidArgument, "int64"),
        (np.full((4, 3), 1e9), np.zeros((2, 3)), InvalidArgument, "float16"),
        (np.zeros((4, 3)), np.zeros((0, 3)), InvalidArgument, "one dimension"),
    ],
)
def test_arrays_that_do_not_fit(
    base: np.ndarray, queries: np.ndarray, error: type[Exception], message: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "b.npy", base)
    np.save(tmp_path / "q.npy", queries)
    with pytest.raises(error, match=message):
        take_arrays(tmp_path / "b.npy", tmp_path / "q.npy", DatasetPlan(), tmp_path / "made")
    with pytest.raises(NotFound):
        open_dataset(tmp_path / "made")


def test_a_file_that_is_no_array(tmp_path: Path) -> None:
    (tmp_path / "b.npy").write_text("text")
    with pytest.raises(NotFound, match=r"b\.npy"):
        take_arrays(tmp_path / "b.npy", tmp_path / "b.npy", DatasetPlan(), tmp_path / "made")


def test_texts_cut_in_several_sizes(tmp_path: Path) -> None:
    words = [f"w{number}" for number in range(10)]
    (tmp_path / "corpus.jsonl").write_text(
        json.dumps({"id": "a", "text": " ".join(words)}) + "\n" + json.dumps({"id": "b", "text": "w0 w1"})
    )
    plan = DatasetPlan(queries=1, truth_queries=1, passage_words=(2, 5))
    made = embed_inputs([str(tmp_path / "corpus.jsonl")], HASHING, plan, tmp_path / "made")
    assert made.about["distinct_passages"] == 5 + 2
    assert made.about["passage_words"] == [2, 5]
