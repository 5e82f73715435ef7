"""The bytes that the planner counts are those of real indexes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datastore.ann.gpu_plan import CODE_BYTES
from datastore.ann.index import load_template, train_template
from datastore.ann.memory import index_bytes
from datastore.ann.spec import IndexSpec, choose_index
from datastore.config import IndexChoice, IndexConfig
from datastore.plan import layout
from datastore.store.vectors import VectorFile, VectorWriter

DIMENSION = 64
ROWS = 2500
SPECS = {
    "flat": IndexSpec("flat", DIMENSION),
    "ivf-pq": IndexSpec("ivf-pq", DIMENSION, 64, 16, 2000),
    "ivf-pq4": IndexSpec("ivf-pq4", DIMENSION, 64, 24, 2000, copies=2, spill_weight=1.5),
    "ivf-pq4, coded lists": IndexSpec("ivf-pq4", DIMENSION, 1056, 24, 2000),
    "ivf-rabitq": IndexSpec("ivf-rabitq", DIMENSION, 64, 0, 2000, bits=1),
}


@pytest.mark.parametrize("name", SPECS)
def test_files_have_the_bytes_that_the_plan_says(name: str, tmp_path: Path) -> None:
    spec = SPECS[name]
    vectors = np.random.default_rng(1).standard_normal((ROWS, DIMENSION), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    template = train_template(spec, vectors[: spec.train_vectors])
    sizes = {"exact vectors": 0, "block checksums": 0, "codes": 0, "template": 0}
    for number, part in enumerate(np.array_split(vectors, 3)):
        folder = tmp_path / str(number)
        folder.mkdir()
        writer = VectorWriter(folder / "vectors.f16", DIMENSION)
        writer.add(part)
        writer.close()
        with VectorFile(folder / "vectors.f16", len(part), DIMENSION) as stored:
            if template.write_segment(stored.blocks(), folder / spec.codes_name):
                sizes["codes"] += (folder / spec.codes_name).stat().st_size
        sizes["exact vectors"] += (folder / "vectors.f16").stat().st_size
        sizes["block checksums"] += (folder / "vectors.xxh3").stat().st_size
    if template.save(tmp_path / spec.template_name):
        sizes["template"] = (tmp_path / spec.template_name).stat().st_size
    planned = layout.disk_parts(spec, ROWS, 3)
    for part_name, size in planned.items():
        assert size == pytest.approx(sizes[part_name], rel=0.02, abs=2048), part_name
    assert sum(planned.values()) == pytest.approx(sum(sizes.values()), rel=0.01, abs=2048)


@pytest.mark.parametrize("copies", [1, 2])
def test_lists_in_memory_have_the_bytes_that_the_plan_says(copies: int, tmp_path: Path) -> None:
    spec = IndexSpec("ivf-pq4", DIMENSION, 16, 24, 2000, copies=copies)
    vectors = np.random.default_rng(1).standard_normal((ROWS, DIMENSION), np.float32)
    trained = train_template(spec, vectors[: spec.train_vectors])
    trained.save(tmp_path / spec.template_name)
    writer = VectorWriter(tmp_path / "vectors.f16", DIMENSION)
    writer.add(vectors)
    writer.close()
    with VectorFile(tmp_path / "vectors.f16", ROWS, DIMENSION) as stored:
        trained.write_segment(stored.blocks(), tmp_path / spec.codes_name)
        index: Any = load_template(spec, tmp_path / spec.template_name).open([tmp_path / spec.codes_name], [stored])
        lists = index._lists
        planned = layout.memory_parts(spec, ROWS, 1)
        in_lists = planned["codes"] + planned["row ids"] + planned["padding of lists"]
        assert in_lists == pytest.approx(lists.totsize, rel=0.06)


@pytest.mark.parametrize("kind", ["flat", "ivf-pq", "ivf-pq4", "ivf-rabitq"])
@pytest.mark.parametrize(("passages", "dimension"), [(10**6, 256), (10**9, 768)])
def test_the_plan_and_the_memory_budget_count_alike(kind: IndexChoice, passages: int, dimension: int) -> None:
    spec = choose_index(IndexConfig(kind=kind), passages, dimension)
    planned = sum(layout.memory_parts(spec, passages, 1).values())
    assert planned == pytest.approx(index_bytes(spec, passages), rel=0.02)


def test_constants_of_the_layout_are_those_of_the_engine() -> None:
    from datastore.ann.kinds.coarse import FLAT_MAX_LISTS
    from datastore.ann.kinds.packed_lists import BLOCK

    assert (layout.BLOCK, layout.COARSE_FLAT_MAX_LISTS) == (BLOCK, FLAT_MAX_LISTS)


@pytest.mark.parametrize("dimension", [1, 64, 256, 384, 768, 1000, 1024, 4096])
def test_gpus_have_sub_quantizers_for_every_dimension(dimension: int) -> None:
    chosen = layout.gpu_pq_m(dimension)
    assert dimension % chosen == 0
    assert chosen in CODE_BYTES
