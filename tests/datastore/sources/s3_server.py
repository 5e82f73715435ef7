"""A server on loopback that speaks as much of S3 as reading takes: ListObjectsV2, HEAD and GET with ranges, and that
checks signatures (AWS Signature Version 4), so that a client without the right secret is refused."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

KEY, SECRET = "loopback", "a secret of the test"
_DATE = "Wed, 31 Jan 2024 12:00:00 GMT"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    objects: Mapping[str, bytes]
    """`bucket/key` -> content."""

    def do_GET(self) -> None:
        if not self._signed():
            self._answer(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
            return
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        bucket, _, key = unquote(parts.path).strip("/").partition("/")
        if not key:
            self._list(bucket, query)
        elif (content := self.objects.get(f"{bucket}/{key}")) is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        elif asked := self.headers.get("Range"):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            stop = min(int(last) + 1 if last else len(content), len(content))
            part = content[int(first) : stop]
            self._answer(206, part, {"Content-Range": f"bytes {first}-{stop - 1}/{len(content)}"})
        else:
            self._answer(200, content)

    do_HEAD = do_GET  # noqa: N815

    def _list(self, bucket: str, query: Mapping[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        keys = sorted(name.partition("/")[2] for name in self.objects if name.startswith(f"{bucket}/"))
        if not keys:
            self._answer(404, b"<Error><Code>NoSuchBucket</Code></Error>")
            return
        found, folders = [], set()
        for key in (key for key in keys if key.startswith(prefix)):
            rest = key.removeprefix(prefix)
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.partition(delimiter)[0] + delimiter)
            else:
                size = len(self.objects[f"{bucket}/{key}"])
                found.append(
                    f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size>"
                    "<LastModified>2024-01-31T12:00:00.000Z</LastModified></Contents>"
                )
        common = "".join(
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in sorted(folders)
        )
        text = (
            f"<ListBucketResult><Name>{bucket}</Name><KeyCount>{len(found) + len(folders)}</KeyCount>"
            f"<IsTruncated>false</IsTruncated>{''.join(found)}{common}</ListBucketResult>"
        )
        self._answer(200, text.encode(), {"Content-Type": "application/xml"})

    def _signed(self) -> bool:
        scheme, _, rest = self.headers.get("Authorization", "").partition(" ")
        fields = dict(field.strip().split("=", 1) for field in rest.split(",") if "=" in field)
        if scheme != "AWS4-HMAC-SHA256" or not fields.get("Credential", "").startswith(f"{KEY}/"):
            return False
        scope = fields["Credential"].partition("/")[2]
        parts = urlsplit(self.path)
        pairs = sorted(
            (quote(a, safe=""), quote(b, safe="")) for a, b in parse_qsl(parts.query, keep_blank_values=True)
        )
        names = fields["SignedHeaders"].split(";")
        request = "\n".join(
            (
                self.command,
                quote(unquote(parts.path), safe="/~"),
                "&".join(f"{name}={value}" for name, value in pairs),
                *(f"{name}:{' '.join(self.headers[name].split())}" for name in names),
                "",
                fields["SignedHeaders"],
                self.headers["x-amz-content-sha256"],
            )
        )
        digest = hashlib.sha256(request.encode()).hexdigest()
        to_sign = "\n".join(("AWS4-HMAC-SHA256", self.headers["x-amz-date"], scope, digest))
        key = f"AWS4{SECRET}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.compare_digest(hmac.digest(key, to_sign.encode(), "sha256").hex(), fields["Signature"])

    def _answer(self, status: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"ETag": '"1"', "Last-Modified": _DATE, "Accept-Ranges": "bytes", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(objects: Mapping[str, bytes]) -> Iterator[str]:
    """The URL of a server that has these objects."""
    handler = type("Handler", (_Handler,), {"objects": objects})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
