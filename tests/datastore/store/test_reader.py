from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore.documents import PassageName
from datastore.errors import DataLoss, InvalidArgument, NotFound
from datastore.store.manifest import SegmentRecord, read_manifest
from datastore.store.reader import StoreReader, shard_segments


@given(st.lists(st.integers(0, 1000), max_size=30), st.integers(1, 9))
def test_every_segment_is_in_exactly_one_shard(sizes: list[int], count: int) -> None:
    segments = [SegmentRecord(f"{i:06d}", size, 0, 0, 0, 0, ()) for i, size in enumerate(sizes)]
    shards = [shard_segments(segments, (index, count)) for index in range(count)]
    placed = [segment.segment_id for shard in shards for segment in shard]
    assert sorted(placed) == [segment.segment_id for segment in segments]
    for shard in shards:
        assert shard == sorted(shard, key=lambda segment: segment.segment_id)
    loads = [sum(segment.passages for segment in shard) for shard in shards]
    # Each segment went to a shard that had the least until then.
    assert max(loads) - min(loads) <= max(sizes, default=0)
    assert [shard_segments(segments[::-1], (index, count)) for index in range(count)] == shards


@pytest.mark.parametrize("shard", [(1, 1), (-1, 2), (0, 0), (5, 3)])
def test_a_shard_outside_the_count(flat_store: Path, shard: tuple[int, int]) -> None:
    with pytest.raises(InvalidArgument, match=f"shard is {shard[0]}/{shard[1]}"):
        StoreReader(flat_store, shard)


@pytest.mark.parametrize("count", [1, 3, 9])
def test_shards_hold_the_whole_store(flat_store: Path, count: int) -> None:
    names = []
    for index in range(count):
        reader = StoreReader(flat_store, (index, count))
        rows = 0
        for segment in reader.segments:
            all_rows = np.arange(segment.vectors.rows)
            held = segment.columns.names(all_rows)
            assert [passage.name for passage in segment.passages.get(all_rows.tolist())] == held
            assert segment.passages.find(held) == all_rows.tolist()
            names += held
            rows += segment.vectors.rows
        assert (reader.bm25.passage_count if reader.bm25 else 0) == rows
        reader.close()
        reader.close()
    assert sorted(names) == sorted(PassageName(f"d{i}", 0) for i in range(60))


def test_any_missing_or_cut_file_is_named(ivf_store: Path) -> None:
    manifest = read_manifest(ivf_store)
    assert manifest.rejects.file is not None
    for record in manifest.files():
        path = ivf_store / record.path
        content = path.read_bytes()
        path.unlink()
        if record in (manifest.rejects.file, manifest.log):  # for people: no search needs them
            StoreReader(ivf_store).close()
            continue
        with pytest.raises(DataLoss, match=f"{path} is missing: No such file or directory") as caught:
            StoreReader(ivf_store)
        assert caught.value.mend
        if content:
            path.write_bytes(content[:-1])
            with pytest.raises(DataLoss, match=f"{path} has {len(content) - 1} bytes; .* {len(content)}"):
                StoreReader(ivf_store)
        path.write_bytes(content)
    StoreReader(ivf_store).close()


def test_a_shard_needs_its_own_files_alone(ivf_store: Path) -> None:
    missing = shard_segments(read_manifest(ivf_store).segments, (1, 2))[0]
    shutil.rmtree(ivf_store / "segments" / missing.segment_id)
    StoreReader(ivf_store, (0, 2)).close()
    with pytest.raises(DataLoss, match=missing.segment_id):
        StoreReader(ivf_store, (1, 2))
    (ivf_store / "template.faiss").unlink()
    with pytest.raises(DataLoss, match=r"template\.faiss is missing"):
        StoreReader(ivf_store, (0, 2))


@pytest.mark.parametrize("part", ["passages/CURRENT", "columns.arrow", "ann.faiss", "bm25/segments_1"])
def test_a_damaged_part_lets_go_of_the_others(ivf_store: Path, part: str) -> None:
    """The second segment's part is damaged at its recorded size; a file left open would be a warning, so an error."""
    path = ivf_store / "segments" / "00000001-000001" / part
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(DataLoss, match="00000001-000001"):
        StoreReader(ivf_store)


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=f"no datastore at {tmp_path}"):
        StoreReader(tmp_path)


@pytest.fixture
def foreign_store(flat_store: Path) -> Iterator[Path]:
    """A store that belongs to somebody else, in a folder that nobody else may change."""
    folder = Path(tempfile.mkdtemp())
    store = Path(shutil.copytree(flat_store, folder / "store"))
    for path in [folder, store, *store.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield store
    for path in [folder, store, *store.rglob("*")]:
        path.chmod(stat.S_IRWXU)
    shutil.rmtree(folder)


@contextlib.contextmanager
def plain_user() -> Iterator[None]:
    """Permissions do not bind root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def _state(store: Path) -> list[tuple[str, int, int, bytes]]:
    return [
        (str(path), path.stat().st_mtime_ns, path.stat().st_mode, b"" if path.is_dir() else path.read_bytes())
        for path in [store, *sorted(store.rglob("*"))]
    ]


def test_reading_needs_no_permission_to_write_and_changes_nothing(foreign_store: Path) -> None:
    before = _state(foreign_store)
    with plain_user():
        with pytest.raises(PermissionError):
            (foreign_store / "write.lock").open("w")
        reader = StoreReader(foreign_store)
        assert reader.bm25 is not None
        rows, _ = reader.bm25.search("number7 amber", 5)
        assert len(rows) == 5
        for segment in reader.segments:
            assert len(segment.passages.get(range(segment.vectors.rows))) == segment.vectors.rows
            assert segment.vectors.read(np.arange(segment.vectors.rows)).any()
        reader.close()
    assert _state(foreign_store) == before
