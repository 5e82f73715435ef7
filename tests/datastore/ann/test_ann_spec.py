from __future__ import annotations

import pytest

from datastore.ann.spec import FLAT_MAX_PASSAGES, IndexSpec, check_index, choose_index
from datastore.config import IndexChoice, IndexConfig
from datastore.errors import InvalidArgument


@pytest.mark.parametrize(
    ("config", "passages", "dimension", "spec"),
    [
        (IndexConfig(), 1, 384, IndexSpec("flat", 384)),
        (IndexConfig(), FLAT_MAX_PASSAGES, 384, IndexSpec("flat", 384)),
        (IndexConfig("flat"), 10**9, 384, IndexSpec("flat", 384)),
        (IndexConfig(), FLAT_MAX_PASSAGES + 1, 384, IndexSpec("ivf-pq4", 384, 3360, 144, 131_073)),
        (IndexConfig(), 10**6, 384, IndexSpec("ivf-pq4", 384, 8192, 144, 8192 * 39)),
        (IndexConfig(), 1_900_000_000, 768, IndexSpec("ivf-pq4", 768, 262_144, 288, 262_144 * 39)),
        (IndexConfig(), 10**6, 12, IndexSpec("ivf-pq", 12, 4096, 2, 262_144)),
        (IndexConfig("ivf-pq4", copies=1), 10_000, 256, IndexSpec("ivf-pq4", 256, 256, 96, 10_000)),
        (IndexConfig("ivf-rabitq", pq_m=7), 10_000, 100, IndexSpec("ivf-rabitq", 100, 256, 0, 10_000)),
        (IndexConfig("ivf-pq"), 256, 256, IndexSpec("ivf-pq", 256, 6, 32, 256)),
        (IndexConfig("ivf-pq"), 10_000, 100, IndexSpec("ivf-pq", 100, 256, 10, 10_000)),
        (IndexConfig("ivf-pq"), 10_000, 101, IndexSpec("ivf-pq", 101, 256, 1, 10_000)),
        (
            IndexConfig("ivf-pq", nlist=50, pq_m=4, train_vectors=300, seed=9),
            10_000,
            64,
            IndexSpec("ivf-pq", 64, 50, 4, 1950, 9),
        ),
        (IndexConfig("ivf-pq", nlist=256), 256, 64, IndexSpec("ivf-pq", 64, 256, 8, 256)),
    ],
)
def test_golden_cases(config: IndexConfig, passages: int, dimension: int, spec: IndexSpec) -> None:
    chosen = choose_index(config, passages, dimension)
    assert chosen.reason
    fields = ("kind", "dimension", "nlist", "pq_m", "train_vectors", "seed")
    assert [getattr(chosen, name) for name in fields] == [getattr(spec, name) for name in fields]


@pytest.mark.parametrize("passages", [256, 300, 5000, 131_073, 10**6, 10**8])
@pytest.mark.parametrize("dimension", [1, 7, 64, 100, 384, 768, 1024, 1536])
def test_what_is_chosen_can_be_trained(passages: int, dimension: int) -> None:
    spec = choose_index(IndexConfig("ivf-pq"), passages, dimension)
    assert 1 <= spec.nlist <= spec.train_vectors <= passages
    assert spec.train_vectors >= 256
    assert dimension % spec.pq_m == 0
    assert 1 <= spec.default_nprobe <= spec.nlist


@pytest.mark.parametrize(
    ("config", "passages", "problem", "mend", "field"),
    [
        (IndexConfig("ivf-pq"), 255, "255 passages cannot train", "--index flat", "index.kind"),
        (IndexConfig("ivf-pq"), 1, "1 passages cannot train", "--index flat", "index.kind"),
        (
            IndexConfig("ivf-pq", nlist=1001),
            1000,
            "nlist is 1001 for 1000 training",
            "lower index.nlist",
            "index.nlist",
        ),
        (IndexConfig("ivf-pq", pq_m=10), 1000, "pq_m is 10; it must divide .* 64", "use 8", "index.pq_m"),
        (IndexConfig(pq_m=65), 1000, "pq_m is 65; for ivf-pq4 it must be even", "use 24", "index.pq_m"),
        (IndexConfig("ivf-rabitq"), 255, "255 passages cannot train", "--index flat", "index.kind"),
        (IndexConfig("ivf-pq4", pq_m=34), 1000, "pq_m is 34; .* at most half of .* 64", "use 24", "index.pq_m"),
    ],
)
def test_errors(config: IndexConfig, passages: int, problem: str, mend: str, field: str) -> None:
    with pytest.raises(InvalidArgument, match=problem) as caught:
        choose_index(config, passages, 64)
    assert mend in caught.value.mend
    assert caught.value.field == field


def test_a_code_length_is_refused_before_anything_is_counted() -> None:
    check_index(IndexConfig(pq_m=8), 64)
    check_index(IndexConfig("flat", pq_m=7), 64)
    with pytest.raises(InvalidArgument, match="pq_m is 7"):
        check_index(IndexConfig(pq_m=7), 64)


@pytest.mark.parametrize("kind", ["ivf-pq4", "ivf-rabitq"])
def test_kinds_for_many_dimensions(kind: IndexChoice) -> None:
    check_index(IndexConfig(kind), 16)
    with pytest.raises(InvalidArgument, match=f"dimension is 15; {kind} needs at least 16"):
        check_index(IndexConfig(kind), 15)


@pytest.mark.parametrize(("dimension", "bits", "size"), [(256, 1, 40), (100, 1, 21), (256, 2, 84), (100, 4, 72)])
def test_bytes_of_a_rabitq_code(dimension: int, bits: int, size: int) -> None:
    spec = choose_index(IndexConfig("ivf-rabitq", bits=bits), 10_000, dimension)
    assert (spec.code_bytes, spec.copies, spec.bits) == (size, 2, bits)
    assert spec.required_features == ("ivf-rabitq",)
    assert (spec.template_name, spec.codes_name) == ("template.npz", "ann.lists")
