"""The lines of a file, plain or compressed, in memory that does not depend on the file."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import BinaryIO, NamedTuple

import zstandard

from datastore.sources.places import open_bytes, size_of, unreadable
from datastore.sources.rejects import EXCERPT_CHARACTERS, RefusedError, without_query

_BLOCK_BYTES = 1 << 16
_COUNTED_BYTES = 1 << 20
_ZSTD_INPUT_BYTES = 1 << 10
"""A zstd block of 4 bytes can expand to 128 KiB, and all that an input expands to is returned at once: at most 32 MiB
for this many bytes."""
_DICTIONARY_MARK = b"\x5d\x2a\x4d\x18"
_MAX_DICTIONARY_BYTES = 64 << 20
_KEPT_OF_TOO_LARGE = 4 * EXCERPT_CHARACTERS


class Line(NamedTuple):
    number: int
    """From 1; blank lines count."""
    content: bytes
    """Without the line feed. Of a line that is too large, the beginning."""
    refused: RefusedError | None = None


class Span(NamedTuple):
    """Some lines of a plain file: those that begin in the bytes `start` … `stop` (exclusive)."""

    start: int
    stop: int | None
    """None where the file's size is not known: at its end."""
    first: int
    """The number of the first of them."""


def cut_lines(location: str, target_bytes: int) -> Iterator[Span]:
    """A plain file in spans of whole lines, each the shortest of at least `target_bytes`, but for the last.

    A file that is not larger comes whole, and is not read. A larger one is read once, to count its lines: so a line has
    the same number, and a document without an id the same generated one, however the file is cut.

    Raises:
        DataLoss: the file cannot be read.
    """
    try:
        size = size_of(location)
        if size is None or size <= target_bytes:
            yield Span(0, size, 1)
            return
        start = offset = 0
        first = number = 1
        with open_bytes(location) as file:
            while block := file.read(_COUNTED_BYTES):
                at = 0
                while (feed := block.find(b"\n", max(at, start + target_bytes - offset - 1))) >= 0:
                    number += block.count(b"\n", at, feed + 1)
                    at = feed + 1
                    yield Span(start, offset + at, first)
                    start, first = offset + at, number
                number += block.count(b"\n", at)
                offset += len(block)
        if start < offset:
            yield Span(start, offset, first)
    except OSError as error:
        raise unreadable(location, error) from error


def read_lines(location: str, max_bytes: int, span: Span | None = None) -> Iterator[Line]:
    """The lines of a file, decompressed by its suffix (`.gz`, `.zst`, several members or frames too), or of a span.

    Lines end at a line feed and nowhere else. A longer line than `max_bytes` comes refused, with its beginning only.
    Where an archive is truncated or corrupt, the whole lines before the damage come first, then one refused line with
    the number of the line that the damage hit. At any time at most `max_bytes` and one decompressed block are held; a
    zstd frame may ask for a window of 128 MiB at most.

    Raises:
        DataLoss: the file cannot be read (any more).
    """
    number, size, held = span.first if span else 1, 0, bytearray()

    def hold(piece: bytes) -> None:
        nonlocal size
        size += len(piece)
        if size <= max_bytes:
            held.extend(piece)
        else:
            held.extend(piece[:_KEPT_OF_TOO_LARGE])
            del held[_KEPT_OF_TOO_LARGE:]

    def line() -> Line:
        if size <= max_bytes:
            return Line(number, bytes(held))
        return Line(number, bytes(held), RefusedError("too large", f"{size} bytes; at most {max_bytes} are taken"))

    try:
        for block in _blocks(location, span):
            start = 0
            while (end := block.find(b"\n", start)) >= 0:
                hold(block[start:end])
                yield line()
                number, size, start = number + 1, 0, end + 1
                held.clear()
            hold(block[start:])
    except DAMAGE as error:
        detail = f"archive truncated or corrupt at line {number}: {error}"
        yield Line(number, bytes(held[:_KEPT_OF_TOO_LARGE]), RefusedError("damaged archive", detail))
        return
    except OSError as error:
        raise unreadable(location, error, f" past line {number}") from error
    if size:
        yield line()


def _blocks(location: str, span: Span | None) -> Iterator[bytes]:
    with open_bytes(location, span.start if span else 0) as file:
        if (blocks := decompressed(location, file)) is not None:
            yield from blocks
        else:
            yield from _read_plain(file, None if span is None or span.stop is None else span.stop - span.start)


def _read_plain(file: BinaryIO, count: int | None) -> Iterator[bytes]:
    while count != 0 and (block := file.read(_BLOCK_BYTES if count is None else min(_BLOCK_BYTES, count))):
        yield block
        count = None if count is None else count - len(block)
    if count:
        raise OSError(f"the file has become {count} bytes shorter since it was cut")


def _read_gzip(compressed: BinaryIO) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=compressed, mode="rb") as file:
        while block := file.read1(_BLOCK_BYTES):  # unlike read, keeps what it has when the archive breaks off
            yield block


def _read_zstd(compressed: BinaryIO) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor()
    begin = compressed.read(len(_DICTIONARY_MARK))
    if begin == _DICTIONARY_MARK:
        decompressor, begin = zstandard.ZstdDecompressor(_dictionary(compressed)), b""
    frame = None
    while data := begin or compressed.read(_ZSTD_INPUT_BYTES):
        begin = b""
        while data:
            frame = frame or decompressor.decompressobj()
            yield frame.decompress(data)
            data = frame.unused_data
            if frame.eof:
                frame = None
    if frame is not None:
        raise EOFError("the file ends inside a zstd frame")


def _dictionary(compressed: BinaryIO) -> zstandard.ZstdCompressionDict:
    """What a skippable frame at the start holds, plain or compressed, and the other frames were compressed with:
    https://iipc.github.io/warc-specifications/specifications/warc-zstd/"""
    size = int.from_bytes(compressed.read(4), "little")
    if size > _MAX_DICTIONARY_BYTES:
        raise zstandard.ZstdError(f"a dictionary of {size} bytes; at most {_MAX_DICTIONARY_BYTES} are taken")
    content = compressed.read(size)
    if len(content) < size:
        raise EOFError("the file ends inside its dictionary")
    if content.startswith(zstandard.FRAME_HEADER):
        size = zstandard.get_frame_parameters(content).content_size
        if zstandard.CONTENTSIZE_UNKNOWN > size > _MAX_DICTIONARY_BYTES:
            raise zstandard.ZstdError(f"a dictionary of {size} bytes; at most {_MAX_DICTIONARY_BYTES} are taken")
        content = zstandard.ZstdDecompressor().decompress(content, max_output_size=_MAX_DICTIONARY_BYTES)
    return zstandard.ZstdCompressionDict(content)


_DECOMPRESSORS: dict[str, Callable[[BinaryIO], Iterator[bytes]]] = {".gz": _read_gzip, ".zst": _read_zstd}
DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError)
"""What archives raise that are truncated or corrupt."""


def decompressed(location: str, file: BinaryIO) -> Iterator[bytes] | None:
    """The blocks of an archive, those before damage too; None of a file that is none, by its suffix. Raises DAMAGE."""
    read = _DECOMPRESSORS.get(_suffix(location))
    return None if read is None else read(file)


def is_compressed(location: str) -> bool:
    return _suffix(location) in _DECOMPRESSORS


def _suffix(location: str) -> str:
    return PurePosixPath(without_query(location)).suffix.lower()
