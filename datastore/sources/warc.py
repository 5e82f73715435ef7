"""WARC archives of the web (ISO 28500), by FastWARC: pages and plain texts, as servers answered."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from datastore.config import InputConfig
from datastore.documents import AttributeValue, Document
from datastore.sources.admission import MAX_ID_BYTES
from datastore.sources.found import Found, Piece, whole
from datastore.sources.html import Page, read_page
from datastore.sources.lines import DAMAGE, decompressed
from datastore.sources.places import open_bytes, unreadable
from datastore.sources.rejects import RefusedError, Rejects

_HTML = ("text/html", "application/xhtml+xml")
_TEXT = "text/plain"
_OK = 200
_MAX_HEADER_BYTES = 1 << 20


class WarcFile:
    """The documents of an archive: answers with status 200 that are HTML or plain text, and conversions to plain text
    (WET files). The id is the URL, or the record's own where that is too long; the source is the host; attributes are
    `url`, `date` (as written, such as 2024-01-31T12:00:00Z) and `content_type`. A record's number is its place in the
    archive.

    Other records are passed over. What is damaged is rejected, and records after it are read if they can be told.
    """

    pieces = staticmethod(whole)

    def read(self, piece: Piece, rejects: Rejects, config: InputConfig) -> Iterator[Found]:
        from fastwarc.warc import ArchiveIterator

        number = 1
        try:
            with _opened(piece.location) as stream:
                records = iter(ArchiveIterator(stream, parse_http=False, max_header_len=_MAX_HEADER_BYTES))
                while (record := next(records, None)) is not None:
                    try:
                        content_type, content = _content(record, config.max_document_bytes)
                        if content_type:
                            yield Found(_document(record, content, content_type), piece.location, number)
                    except RefusedError as refused:
                        rejects.add(piece.location, number, refused)
                    number += 1
        except (OSError, *DAMAGE) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise unreadable(piece.location, error) from error
            detail = f"archive truncated or corrupt at record {number}: {error}"
            rejects.add(piece.location, number, RefusedError("damaged archive", detail))


@contextmanager
def _opened(location: str) -> Iterator[Any]:
    """The archive, decompressed here: FastWARC takes a truncated one for a short one."""
    with open_bytes(location) as stream:
        blocks = decompressed(location, stream)
        yield stream if blocks is None else _Blocks(blocks)


class _Blocks:
    """Blocks as a file, for reading; what comes before damage is handed out first."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._left = memoryview(b"")
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        while not self._left and (block := next(self._blocks, None)) is not None:
            self._left = memoryview(block)
        part = bytes(self._left if size < 0 else self._left[:size])
        self._left = self._left[len(part) :]
        self._at += len(part)
        return part

    def tell(self) -> int:
        return self._at


def _content(record: Any, max_bytes: int) -> tuple[str, bytes]:
    """Content type and content of a record that is a document, decoded from what HTTP packs it in; "" of another."""
    from fastwarc.warc import WarcRecordType

    length = record.content_length
    if record.headers.get("Content-Length") is None:
        raise RefusedError("damaged record", "the record's header has no Content-Length")
    if record.record_type not in (WarcRecordType.response, WarcRecordType.conversion):
        if (skipped := record.reader.consume()) < length:
            raise _cut_off(skipped, length)
        return "", b""
    if length > max_bytes + _MAX_HEADER_BYTES:
        raise RefusedError("too large", f"{length} bytes; at most {max_bytes} are taken")
    block = record.reader.read()
    if len(block) < length:
        raise _cut_off(len(block), length)
    if record.record_type == WarcRecordType.conversion:
        named = str(record.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
        content = bytes(block)
    else:
        record.set_bytes_content(block)
        try:
            record.parse_http(auto_decode="all", max_header_len=_MAX_HEADER_BYTES)
            if record.http_headers is None or record.http_headers.status_code != _OK:
                return "", b""
            named = str(record.http_content_type or "").lower()
            content = bytes(record.reader.read(max_bytes + 1)) if named in (*_HTML, _TEXT) else b""
        except Exception as error:  # the decoders of HTTP's encodings have errors of their own
            raise RefusedError("damaged record", f"{type(error).__name__}: {error}") from error
    if len(content) > max_bytes:
        raise RefusedError("too large", f"more than {max_bytes} bytes, which is what is taken at most")
    return (named if named in (*_HTML, _TEXT) else ""), content


def _cut_off(seen: int, length: int) -> RefusedError:
    return RefusedError("damaged record", f"the record ends after {seen} of {length} bytes")


def _document(record: Any, content: bytes, content_type: str) -> Document:
    url = str(record.headers.get("WARC-Target-URI") or "").strip().strip("<>")
    record_id = str(record.headers.get("WARC-Record-ID") or "").strip().strip("<>")
    if not url and not record_id:
        raise RefusedError("bad id", "the record has neither a WARC-Target-URI nor a WARC-Record-ID")
    page = read_page(content, record.http_charset) if content_type in _HTML else Page("", _text(content, record))
    attributes: dict[str, AttributeValue] = {"url": url, "content_type": content_type}
    if date := record.headers.get("WARC-Date"):
        attributes["date"] = str(date)
    short = url and len(url.encode(errors="replace")) <= MAX_ID_BYTES
    return Document(url if short else record_id, page.text, page.title, _host(url), attributes)


def _text(content: bytes, record: Any) -> str:
    charset = record.http_charset or "utf-8"
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode(charset)
    except (LookupError, UnicodeDecodeError) as error:
        raise RefusedError("not UTF-8", f"the text is not in {charset}: {error}") from error


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or url
    except ValueError:
        return url
