from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from datastore.errors import DataLoss
from datastore.sources.lines import read_lines

COMPRESS: dict[str, Callable[[bytes], bytes]] = {".jsonl": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}
CONTENT = b"".join(b"line %d \xe2\x80\xa8 \xc2\x85 more\r\n\n" % number for number in range(50))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lines")


def expected_lines(content: bytes) -> list[bytes]:
    lines = content.split(b"\n")
    return lines[:-1] if lines[-1] == b"" else lines


@pytest.mark.parametrize("suffix", COMPRESS)
@settings(deadline=None)
@given(parts=st.lists(st.binary(max_size=50) | st.just(b"\n\n") | st.just(b"x" * 70_000), max_size=8))
def test_lines_end_at_line_feeds_alone(suffix: str, parts: list[bytes], folder: Path) -> None:
    path = folder / f"any{suffix}"
    path.write_bytes(b"".join(map(COMPRESS[suffix], parts)))  # several members, several frames
    lines = list(read_lines(str(path), 1_000_000))
    assert [line.content for line in lines] == expected_lines(b"".join(parts))
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    assert all(line.refused is None for line in lines)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_truncated_archive_keeps_its_whole_lines(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"cut{suffix}"
    archive = COMPRESS[suffix](CONTENT)
    for size in range(1, len(archive)):
        path.write_bytes(archive[:size])
        *good, last = read_lines(str(path), 1_000)
        assert last.refused is not None
        assert last.refused.reason == "damaged archive"
        assert f"at line {last.number}: " in last.refused.detail
        assert [line.content for line in good] == expected_lines(CONTENT)[: len(good)]
        assert last.number == len(good) + 1


def test_all_that_a_truncated_gzip_still_holds_comes_out(tmp_path: Path) -> None:
    path = tmp_path / "cut.gz"
    cut = gzip.compress(CONTENT * 100)[:-200]
    path.write_bytes(cut)
    held = zlib.decompressobj(wbits=31).decompress(cut)
    assert sum(line.refused is None for line in read_lines(str(path), 1_000)) == held.count(b"\n") > 0


def test_all_that_a_truncated_zstd_still_holds_comes_out(tmp_path: Path) -> None:
    path = tmp_path / "cut.zst"
    lines = [b"%0200d" % (number * 7919) for number in range(3_000)]
    path.write_bytes(zstandard.compress(b"\n".join(lines))[:-1])
    good = [line.content for line in read_lines(str(path), 1_000) if line.refused is None]
    assert good == lines[: len(good)]
    assert (len(good) + 1) * 201 >= 4 * 131_072  # all blocks of 128 KiB but the last


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@settings(deadline=None)
@given(at=st.integers(0, 10_000), value=st.integers(0, 255))
def test_a_changed_byte_never_crashes(suffix: str, at: int, value: int, folder: Path) -> None:
    path = folder / f"flipped{suffix}"
    archive = bytearray(COMPRESS[suffix](CONTENT))
    archive[at % len(archive)] = value
    path.write_bytes(archive)
    lines = list(read_lines(str(path), 1_000))
    assert all(line.refused is None for line in lines[:-1])


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_giant_line_is_skipped_without_being_held(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"giant{suffix}"
    giant = 200 << 20
    opener: dict[str, Callable[[], BinaryIO]] = {
        ".jsonl": lambda: path.open("wb"),
        ".gz": lambda: cast(BinaryIO, gzip.open(path, "wb", compresslevel=1)),  # noqa: SIM115
        ".zst": lambda: zstandard.open(path, "wb"),
    }
    with opener[suffix]() as file:
        file.write(b"before\n")
        for _ in range(giant >> 20):
            file.write(bytes(1 << 20))
        file.write(b"\nafter")
    tracemalloc.start()
    before, large, after = read_lines(str(path), 1 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (before.content, after.content, after.number) == (b"before", b"after", 3)
    assert large.refused is not None
    assert large.refused.detail == f"{giant} bytes; at most {1 << 20} are taken"
    assert len(large.content) < 1_000
    assert peak < 100 << 20


def test_the_limit_is_inclusive(tmp_path: Path) -> None:
    path = tmp_path / "limit.jsonl"
    path.write_bytes(b"1234\n12345\n1234")
    assert [line.refused is None for line in read_lines(str(path), 4)] == [True, False, True]


def test_a_file_that_vanished_is_data_loss(tmp_path: Path) -> None:
    with pytest.raises(DataLoss, match=r"gone\.jsonl cannot be read past line 1: No such file"):
        list(read_lines(str(tmp_path / "gone.jsonl"), 10))
