from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datastore.documents import AttributeValue, Passage
from datastore.filters.evaluate import survivors
from datastore.filters.language import parse
from datastore.filters.survivors import Survivors
from datastore.store.columns import Columns, ColumnsWriter

if TYPE_CHECKING:
    from tests.datastore.filters.conftest import Filter


def write(path: Path, passages: list[Passage]) -> Columns:
    writer = ColumnsWriter(path)
    writer.add(passages)
    writer.close()
    return Columns(path, len(passages))


def rows(columns: Columns, where: str) -> list[int]:
    return [int(row) for row in survivors(parse(where), columns).rows]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_filter_means_the_same_for_a_passage_in_every_segment(
    tmp_path_factory: pytest.TempPathFactory,
    passages: st.SearchStrategy[list[Passage]],
    filters: st.SearchStrategy[Filter],
    data: st.DataObject,
) -> None:
    drawn, folder = data.draw(passages), tmp_path_factory.mktemp("columns")
    ends = sorted(data.draw(st.sets(st.integers(1, len(drawn)), max_size=3)) | {len(drawn)})
    segments = [drawn[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    written = [write(folder / str(i), segment) for i, segment in enumerate(segments)]
    for it in data.draw(st.lists(filters, min_size=1, max_size=5)):
        predicate = parse(it.text)
        for segment, columns in zip(segments, written, strict=True):
            wanted = [row for row, passage in enumerate(segment) if it.truth(passage) is True]
            assert survivors(predicate, columns).rows.tolist() == wanted, it.text
    for columns in written:
        columns.close()


def with_attribute(values: list[AttributeValue | None]) -> list[Passage]:
    return [
        Passage(f"d{i}", 0, "t", "", "s", 0, 1, {} if value is None else {"x": value}) for i, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ("x = 1", [0, 1]),
        ("x = '1'", [2]),
        ("x = true", [3]),
        ("x != 1", [5]),
        ("not x = 1", [5]),
        ("x != '1'", [4, 6]),
        ("x >= '1'", [2, 4, 6]),
        ("x > 0", [0, 1, 5]),
        ("x is null", [7]),
        ("x is not null", [0, 1, 2, 3, 4, 5, 6]),
        ("x = 1 or x = '1'", [0, 1, 2]),
        ("x = 1 or x is null", [0, 1, 7]),
        ("starts_with(x, 'Tr')", [4]),
        ("y = 1 or not y = 1", []),
        ("y is null", [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_types_are_kept_apart_where_a_column_mixes_them(tmp_path: Path, where: str, wanted: list[int]) -> None:
    values: list[AttributeValue | None] = [1, 1.0, "1", True, "True", 1 << 64, "z", None]
    assert rows(write(tmp_path / "c", with_attribute(values)), where) == wanted


def test_integers_and_doubles_compare_exactly(tmp_path: Path) -> None:
    top = 1 << 53
    integers = write(tmp_path / "i", with_attribute([top, top + 1, top + 2]))
    assert rows(integers, f"x > {float(top)!r}") == [1, 2]
    assert rows(integers, f"x = {top + 1}") == [1]
    doubles = write(tmp_path / "d", with_attribute([float(top), float(top + 2)]))
    assert rows(doubles, f"x < {top + 1}") == [0]
    assert rows(doubles, f"x >= {top + 1}") == [1]
    assert rows(doubles, f"x = {top + 1}") == []
    assert rows(doubles, f"x != {top + 1}") == [0, 1]
    zeros = write(tmp_path / "z", with_attribute([0.0, -0.0, 1.5]))
    assert rows(zeros, "x in (0, 9)") == [0, 1]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 64, 1000])
def test_a_bitmap_has_a_bit_a_row_and_none_beyond(tmp_path: Path, count: int) -> None:
    columns = write(tmp_path / "c", with_attribute([i % 3 for i in range(count)]))
    for where, wanted in (("x = 0", range(0, count, 3)), ("x >= 0", range(count)), ("x < 0", range(0))):
        found = survivors(parse(where), columns)
        bits = np.zeros((count + 7) // 8 * 8, bool)
        bits[wanted] = True
        np.testing.assert_array_equal(found.bitmap, np.packbits(bits, bitorder="little"))
        assert (found.passages, found.count, found.rows.dtype.name) == (count, len(wanted), "int64")
        assert found.rows.tolist() == found.rows.tolist() == list(wanted)
        with pytest.raises(ValueError, match="read-only"):
            found.bitmap[0] = 1


def test_a_segment_without_passages(tmp_path: Path) -> None:
    columns = write(tmp_path / "c", [])
    for where in ("x = 1", "x is null", "source = 'a'", "not starts_with(document_id, 'a')"):
        assert survivors(parse(where), columns).count == 0


def test_rows_of_any_bitmap() -> None:
    rng = np.random.default_rng(0)
    for share in (0.0, 0.001, 0.5, 1.0):
        kept = rng.random(4099) < share
        found = Survivors(kept.size, np.packbits(kept, bitorder="little"))
        np.testing.assert_array_equal(found.rows, np.flatnonzero(kept))
        assert found.count == kept.sum()
