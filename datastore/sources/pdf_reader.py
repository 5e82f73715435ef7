"""Reads PDF files for `pdf`, in a process of its own: a page can take for ever, all memory, or the process with it.

A program without imports of ours, so that it starts at once. In: for each file its length, 8 bytes, little-endian, and
its content. Out: lines of JSON: `{"pages": n}`, then of each page `{"text": …}` or `{"damaged": …}`, and in the end
`{"title": …}`; or `{"refused": [reason, detail]}` where it cannot be opened. Ends at the end of its input.

It ends itself, by an alarm that also reaches into PDFium, where a page takes too long: whoever started it may be gone.

Args: bytes of memory to take at most, pages to read at most, seconds for each, and to open a file.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pypdfium2

_HYPHENATED = re.compile("\ufffe(\n)?|\u00ad\n")
"""A hyphen that a word got at the end of a line, as PDFium marks it."""


def _messages(content: bytes, max_pages: int) -> Iterator[dict[str, Any]]:
    try:
        pdf = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        problem = str(error)
        if "assword" in problem or "ecurity" in problem:
            yield {"refused": ["encrypted", "the file asks for a password"]}
        else:
            yield {"refused": ["not PDF", problem]}
        return
    try:
        yield {"pages": len(pdf)}
        for number in range(min(len(pdf), max_pages)):
            try:
                yield {"text": _page_text(pdf, number)}
            except pypdfium2.PdfiumError as error:
                yield {"damaged": str(error)}
        yield {"title": pdf.get_metadata_value("Title")}
    finally:
        pdf.close()


def _page_text(pdf: Any, number: int) -> str:
    page = pdf[number]
    try:
        words = page.get_textpage()
        try:
            text = str(words.get_text_bounded())
        finally:
            words.close()
    finally:
        page.close()
    return _HYPHENATED.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def main() -> None:
    max_memory, max_pages, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (max_memory if hard < 0 else min(max_memory, hard), hard))
    while length := sys.stdin.buffer.read(8):
        content = sys.stdin.buffer.read(int.from_bytes(length, "little"))
        signal.setitimer(signal.ITIMER_REAL, seconds)
        for message in _messages(content, max_pages):
            signal.setitimer(signal.ITIMER_REAL, 0)
            sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
            sys.stdout.buffer.flush()
            signal.setitimer(signal.ITIMER_REAL, seconds)
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main()
