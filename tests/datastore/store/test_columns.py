from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datastore.documents import AttributeValue, Passage, PassageName
from datastore.errors import DataLoss
from datastore.store.columns import Columns, ColumnsWriter


def passage(row: int, attributes: Mapping[str, AttributeValue] | None = None, source: str = "s") -> Passage:
    return Passage(f"d{row // 3}", row % 3, "text", "title", source, 0, 4, attributes or {})


def write(path: Path, passages: list[Passage]) -> Columns:
    writer = ColumnsWriter(path)
    writer.add(passages[:2])
    writer.add(passages[2:])
    writer.close()
    return Columns(path, len(passages))


@pytest.mark.parametrize(
    ("values", "kind", "stored"),
    [
        ([True, None, False], pa.bool_(), [True, None, False]),
        ([1, None, -(1 << 63)], pa.int64(), [1, None, -(1 << 63)]),
        ([1.5, 2, None], pa.float64(), [1.5, 2.0, None]),
        ([0.1, 1e308], pa.float64(), [0.1, 1e308]),
        (["a", "", None, "é\0\n"], pa.large_string(), ["a", "", None, "é\0\n"]),
        ([1 << 63, 1], pa.large_string(), [str(1 << 63), "1"]),
        ([10**400], pa.large_string(), [str(10**400)]),
        ([0.5, 1 << 53, (1 << 53) + 1], pa.large_string(), ["0.5", str(1 << 53), str((1 << 53) + 1)]),
        ([0.5, 10**400], pa.large_string(), ["0.5", str(10**400)]),
        ([0.5, 1 << 53], pa.float64(), [0.5, float(1 << 53)]),
        ([1, "1", True, 1.0], pa.large_string(), ["1", "1", "True", "1.0"]),
        ([True, 1], pa.large_string(), ["True", "1"]),
    ],
)
def test_kinds(tmp_path: Path, values: list[AttributeValue | None], kind: pa.DataType, stored: list[object]) -> None:
    passages = [passage(i, {} if value is None else {"x": value}) for i, value in enumerate(values)]
    columns = write(tmp_path / "c", passages)
    column = columns.table.column("attribute.x")
    assert column.type == kind
    assert column.to_pylist() == stored
    columns.close()


_VALUES = st.one_of(
    st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(st.characters(exclude_categories=["Cs"]))
)
_NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(_NAMES, _VALUES, max_size=4), min_size=1, max_size=12))
def test_any_attributes(tmp_path_factory: pytest.TempPathFactory, attributes: list[dict[str, AttributeValue]]) -> None:
    passages = [passage(i, each, source=f"s{i % 2}") for i, each in enumerate(attributes)]
    columns = write(tmp_path_factory.mktemp("columns") / "c", passages)
    names = {name for each in attributes for name in each}
    fixed = ["document_id", "chunk_index", "source"]
    named = columns.table.column_names
    beside = {f"is_string.{name}" for name in names}
    assert [name for name in named if name not in beside] == fixed + [f"attribute.{name}" for name in sorted(names)]
    assert columns.table.column("source").to_pylist() == [each.source for each in passages]
    for name in names:
        for each, stored in zip(attributes, columns.table.column(f"attribute.{name}").to_pylist(), strict=True):
            if name not in each:
                assert stored is None
            else:
                assert stored == (str(each[name]) if isinstance(stored, str) else each[name])
        values = [each.get(name) for each in attributes]
        was_string = [None if value is None else isinstance(value, str) for value in values]
        mixed = columns.table.schema.field(f"attribute.{name}").type == pa.large_string() and False in was_string
        assert (f"is_string.{name}" in named) == mixed
        if mixed:
            assert columns.table.column(f"is_string.{name}").to_pylist() == was_string
    rows = np.array([len(passages) - 1, 0, 0], np.int64)
    assert columns.names(rows) == [passages[row].name for row in rows]
    columns.close()


def test_names(tmp_path: Path) -> None:
    passages = [Passage(name, 2**31 - 1, "", "", "", 0, 0) for name in ("a", "é😀", "0", "x" * 512)]
    columns = write(tmp_path / "c", passages)
    assert columns.names(np.array([3, 1], np.int64)) == [
        PassageName("x" * 512, 2**31 - 1),
        PassageName("é😀", 2**31 - 1),
    ]
    assert columns.names(np.empty(0, np.int64)) == []
    columns.close()


def test_rows_that_differ_from_the_manifest(tmp_path: Path) -> None:
    write(tmp_path / "c", [passage(i) for i in range(5)]).close()
    with pytest.raises(DataLoss, match=f"{tmp_path / 'c'} has 5 rows; the manifest says 6"):
        Columns(tmp_path / "c", 6)


def test_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "c"
    write(path, [passage(i) for i in range(5)]).close()
    content = path.read_bytes()
    damaged = [b"", b"ARROW1", content[:-1], content[: len(content) // 2], bytes(len(content))]
    for damage in damaged:
        path.write_bytes(damage)
        with pytest.raises(DataLoss, match=str(path)):
            Columns(path, 5)
    path.unlink()
    with pytest.raises(DataLoss, match=str(path)):
        Columns(path, 5)


def test_another_table(tmp_path: Path) -> None:
    table = pa.table({"document_id": pa.array(["a"])})
    with pa.OSFile(str(tmp_path / "c"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(DataLoss, match="chunk_index"):
        Columns(tmp_path / "c", 1)


def test_a_closed_file_is_let_go_of_though_the_object_is_kept(tmp_path: Path) -> None:
    columns = write(tmp_path / "columns.arrow", [passage(row) for row in range(4)])
    assert columns.names(np.array([1])) == [PassageName("d0", 1)]
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert str(tmp_path) in maps.read_text()
        columns.close()
        assert str(tmp_path) not in maps.read_text()
