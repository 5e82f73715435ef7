"""PDF: the text of a file's pages, by PDFium, the reader of Chromium, in a process beside this one (`pdf_reader`)."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from threading import Lock
from typing import Any

from datastore.config import InputConfig
from datastore.documents import Document
from datastore.sources.found import Found, Piece, whole
from datastore.sources.places import read_file
from datastore.sources.rejects import RefusedError, Rejects

MAX_PAGES = 20_000
MAX_MEMORY = 4 << 30
"""Bytes of address space that reading may take: some 100 MB are the reader's, a scanned page takes some 100 MB."""
PAGE_SECONDS = 30.0
"""For one page, or to open the file. Pages of text take milliseconds, those with maps seconds."""


class PdfFile:
    """Files of pages, one document each, named as the file; the title is the file's own, the attribute `pages` their
    number. Pages that are damaged are rejected, by number; files that are encrypted, have no text, or a page that takes
    more than PAGE_SECONDS or MAX_MEMORY, whole."""

    pieces = staticmethod(whole)

    def read(self, piece: Piece, rejects: Rejects, config: InputConfig) -> Iterator[Found]:
        content = read_file(piece.location, rejects, config.max_document_bytes)
        if content is None:
            return
        try:
            document = _read(content, piece, rejects, config.max_document_bytes)
        except RefusedError as refused:
            rejects.add(piece.location, 1, refused)
        else:
            yield Found(document, piece.location, 1)


def _read(content: bytes, piece: Piece, rejects: Rejects, max_bytes: int) -> Document:
    texts: list[str] = []
    size = pages = number = 0
    title = ""
    with contextlib.closing(_READER.messages(content)) as messages:
        for message in messages:
            if "refused" in message:
                raise RefusedError(*message["refused"])
            if "pages" in message:
                pages = message["pages"]
                if pages > MAX_PAGES:
                    raise RefusedError("too large", f"{pages} pages; at most {MAX_PAGES} are taken")
            elif "title" in message:
                title = " ".join(message["title"].replace("\0", " ").split())
            else:
                number += 1
                if "damaged" in message:
                    refused = RefusedError("damaged page", f"page {number}: {message['damaged']}")
                    rejects.add(piece.location, number, refused)
                    continue
                size += len(message["text"].encode(errors="replace"))
                if size > max_bytes:
                    raise RefusedError("too large", f"{size} bytes of text and more; at most {max_bytes} are taken")
                texts.append(message["text"])
    if not any(texts):
        raise RefusedError("no text", f"none of {pages} pages has text: scanned pages need OCR first")
    return Document(piece.name, "\n\n".join(filter(None, texts)), title, piece.source, {"pages": pages})


class _Reader:
    """The process that reads, started at the first file and kept for the next; for one thread at a time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        atexit.register(self.close)

    def messages(self, content: bytes) -> Generator[dict[str, Any], None, None]:
        """What the reader says of a file; it is ended where it takes too long, or where nobody listens to the end.

        Raises:
            RefusedError: a page took too long, or ended the reader.
        """
        with self._lock:
            process = self._running()
            done = False
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                with contextlib.suppress(BrokenPipeError):  # then there is nothing to read either
                    process.stdin.write(len(content).to_bytes(8, "little") + content)
                    process.stdin.flush()
                count = 0
                while not done:
                    line = process.stdout.readline()
                    if not line.endswith(b"\n"):
                        raise _ended(process.wait(), count)
                    message = json.loads(line)
                    done = "title" in message or "refused" in message
                    yield message
                    count += 1
            finally:
                if not done:
                    self.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._owner != os.getpid():  # a fork's parent's: its pipes are not ours
            self._process = None
        if self._process is None:
            program = Path(__file__).with_name("pdf_reader.py")
            command = [sys.executable, "-I", str(program), str(MAX_MEMORY), str(MAX_PAGES), str(PAGE_SECONDS)]
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            self._owner = os.getpid()
        return self._process

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            with contextlib.suppress(BrokenPipeError):
                process.communicate()


def _ended(status: int, messages: int) -> RefusedError:
    where = f"page {messages}" if messages else "opening it"
    if status == -signal.SIGALRM:
        return RefusedError("too slow", f"{where} took more than {PAGE_SECONDS:.0f} s")
    return RefusedError("damaged file", f"{where} ended its reader, or took more than {MAX_MEMORY >> 30} GiB of memory")


_READER = _Reader()
