"""Small valid files of every kind of input, to be damaged by `bench.fuzz_inputs` and read by tests."""

from __future__ import annotations

import gzip
import io
import json
from datetime import datetime
from typing import Any

import zstandard

RECORDS = [
    {"_id": "one", "title": "First", "text": "Some words of a first document.", "year": 1999, "tags": ["a", {"b": 1}]},
    {
        "id": 2,
        "text": "Dolma's shape, with é, 漢 and 😀.",
        "source": "web",
        "metadata": {"lang": "en"},
        "added": "2024-01-01",
    },
    {"text": "A third one, without an id. " * 20},
]


def jsonl() -> bytes:
    return b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in RECORDS)


def html() -> bytes:
    return (
        "<!doctype html><html><head><meta charset=utf-8><title>A page</title><script>var hidden;</script></head><body>"
        "<nav><a href=/>Home</a></nav><main><h1>Heading</h1><p>Words of the page, é &amp; others.</p>"
        "<table><tr><td>cell</td></tr></table><pre>kept\n  as is</pre></main><footer>imprint</footer></body></html>"
    ).encode()


def pdf(pages: tuple[str, ...] = ("Words of the first page", "and of the second"), title: str = "A paper") -> bytes:
    """Pages of one line each; an empty one has no text, as if it were scanned."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    objects.append(b"<< /Title (%s) >>" % title.encode())
    kids = []
    for text in pages:
        content = b"BT /F1 12 Tf 72 720 Td (%s) Tj ET" % text.encode()
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R"
            b" /Resources << /Font << /F1 3 0 R >> >> >>" % len(objects)
        )
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b" ".join(kids), len(kids))
    out, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return out + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer << /Size %d /Root 1 0 R /Info 4 0 R >>\nstartxref\n%d\n%%%%EOF\n"
        % (len(objects) + 1, table, len(objects) + 1, len(out))
    )


def warc_record(
    url: str, body: bytes, content_type: str = "text/html; charset=utf-8", status: str = "200 OK", headers: str = ""
) -> bytes:
    http = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{headers}\r\n".encode() + body
    head = (
        "WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:12345678-1234-1234-1234-123456789012>\r\n"
        f"WARC-Target-URI: {url}\r\nWARC-Date: 2024-01-31T12:00:00Z\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    return head.encode() + http + b"\r\n\r\n"


def warc_records() -> list[bytes]:
    packed = gzip.compress(b"<p>Words that came in a gzip stream.</p>", mtime=0)
    return [
        b"WARC/1.0\r\nWARC-Type: warcinfo\r\nContent-Length: 10\r\n\r\nsoftware: \r\n\r\n",
        warc_record("https://example.org/page", html()),
        warc_record("https://example.org/plain", "Plain words, é.".encode(), "text/plain"),
        warc_record("https://example.org/gone", b"not here", status="404 Not Found"),
        warc_record("https://example.org/picture", b"\x89PNG", "image/png"),
        warc_record("https://example.org/packed", packed, headers="Content-Encoding: gzip\r\n"),
    ]


def parquet() -> bytes:
    import pyarrow.parquet

    out = io.BytesIO()
    pyarrow.parquet.write_table(_table(), out, row_group_size=1)
    return out.getvalue()


def arrow(*, stream: bool = True) -> bytes:
    import pyarrow.ipc

    out = io.BytesIO()
    table = _table()
    with (pyarrow.ipc.new_stream if stream else pyarrow.ipc.new_file)(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)
    return out.getvalue()


def _table() -> Any:
    import pyarrow

    return pyarrow.table(
        {
            "id": ["r1", "r2", "r3"],
            "title": ["First", None, ""],
            "text": ["Words of a row.", "Others, é.", "A third."],
            "when": [datetime(2024, 1, 31), None, datetime(1999, 12, 31)],  # noqa: DTZ001  (as columns have them)
            "tags": [["a", "b"], [], None],
            "inner": [{"x": 1, "y": float("nan")}, None, {"x": 2, "y": 0.5}],
            "picture": [b"\xff\xd8", None, b""],
        }
    )


def files() -> dict[str, bytes]:
    """File name -> content."""
    return {
        "a.jsonl": jsonl(),
        "a.jsonl.gz": gzip.compress(jsonl(), mtime=0),
        "a.json.zst": zstandard.compress(jsonl()),
        "a.txt": "Plain words, é.\n".encode(),
        "a.md": b"# Heading\n\nWords.\n\n- item\n\n```\ncode\n```\n",
        "a.html": html(),
        "a.pdf": pdf(),
        "a.warc": b"".join(warc_records()),
        "a.warc.gz": b"".join(gzip.compress(record, mtime=0) for record in warc_records()),
        "a.warc.zst": b"".join(zstandard.compress(record) for record in warc_records()),
        "a.parquet": parquet(),
        "a.arrow": arrow(),
        "b.arrow": arrow(stream=False),
    }
