"""docs/FORMAT.md, held against a kept store: by what it says alone, without a line of the program."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash

HERE = Path(__file__).parent
STORE = HERE / "v1-flat"
DOCUMENT = (HERE.parents[1] / "docs" / "FORMAT.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((STORE / "manifest.json").read_bytes())
    return found


def fields(tree: object) -> Iterator[str]:
    """Names of the fields at any depth; those of `by_reason` are data."""
    if isinstance(tree, list):
        for item in tree:
            yield from fields(item)
    elif isinstance(tree, dict):
        for name, value in tree.items():
            yield name
            yield from fields(value) if name != "by_reason" else ()


def test_every_field_is_described(manifest: dict[str, Any]) -> None:
    described = set(re.findall(r"`(\w+)`", DOCUMENT))
    assert set(fields(manifest)) - described == set()
    with_curve = json.loads((HERE / "v1-ivf-pq4" / "manifest.json").read_bytes())
    assert with_curve["operating_curve"]["curves"]
    assert set(fields(with_curve)) - described == set()


def test_checksums(manifest: dict[str, Any]) -> None:
    data = (STORE / "manifest.json").read_bytes()
    digits = manifest["manifest_xxh3_128"].encode()
    assert data.count(digits) == 1
    assert xxhash.xxh3_128_hexdigest(data.replace(digits, b"0" * 32)) == digits.decode()
    files = [file for segment in manifest["segments"] for file in segment["files"]] + [manifest["rejects"]["file"]]
    for file in files:
        content = (STORE / file["path"]).read_bytes()
        assert (len(content), xxhash.xxh3_128_hexdigest(content)) == (file["bytes"], file["xxh3_128"])
    on_disk = {path.relative_to(STORE).as_posix() for path in STORE.rglob("*") if path.is_file()}
    assert on_disk == {file["path"] for file in files} | {"manifest.json"}


def test_vectors_and_columns(manifest: dict[str, Any]) -> None:
    names: list[tuple[str, int]] = []
    for segment in manifest["segments"]:
        folder = STORE / "segments" / segment["segment_id"]
        vectors = np.fromfile(folder / "vectors.f16", "<f2").reshape(
            segment["passages"], manifest["encoder"]["dimension"]
        )
        assert np.abs(np.linalg.norm(vectors.astype(np.float32), axis=1) - 1).max() < 1e-3
        table = pa.ipc.open_file(str(folder / "columns.arrow")).read_all()
        assert table.num_rows == segment["passages"]
        assert table.schema.field("document_id").type == pa.large_string()
        assert table.schema.field("chunk_index").type == pa.int32()
        assert sum(index == 0 for index in table.column("chunk_index").to_pylist()) == segment["documents"]
        names += zip(table.column("document_id").to_pylist(), table.column("chunk_index").to_pylist(), strict=True)
    assert len(names) == len(set(names)) == 13
    assert names[:3] == [("lamp", 0), ("lamp", 1), ("fog", 0)]
