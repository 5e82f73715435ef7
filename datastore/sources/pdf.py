"""PDF: the text of a file's pages, by PDFium, the reader of Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from threading import Lock
from typing import Any

from datastore.config import InputConfig
from datastore.documents import Document
from datastore.sources.found import Found, Piece, whole
from datastore.sources.places import read_file
from datastore.sources.rejects import RefusedError, Rejects

MAX_PAGES = 20_000
_LOCK = Lock()
"""PDFium is for one thread at a time."""
_HYPHENATED = re.compile("\ufffe(\n)?|\u00ad\n")
"""A hyphen that a word got at the end of a line, as PDFium marks it."""


class PdfFile:
    """Files of pages, one document each, named as the file; the title is the file's own, the attribute `pages` their
    number. Pages that are damaged are rejected, by number; files that are encrypted, or have no text, whole."""

    pieces = staticmethod(whole)

    def read(self, piece: Piece, rejects: Rejects, config: InputConfig) -> Iterator[Found]:
        content = read_file(piece.location, rejects, config.max_document_bytes)
        if content is None:
            return
        try:
            with _LOCK:
                document = _read(content, piece, rejects, config.max_document_bytes)
        except RefusedError as refused:
            rejects.add(piece.location, 1, refused)
        else:
            yield Found(document, piece.location, 1)


def _read(content: bytes, piece: Piece, rejects: Rejects, max_bytes: int) -> Document:
    import pypdfium2

    try:
        pdf = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        problem = str(error)
        if "assword" in problem or "ecurity" in problem:
            raise RefusedError("encrypted", "the file asks for a password") from error
        raise RefusedError("not PDF", problem) from error
    try:
        if len(pdf) > MAX_PAGES:
            raise RefusedError("too large", f"{len(pdf)} pages; at most {MAX_PAGES} are taken")
        texts: list[str] = []
        size = 0
        for number in range(len(pdf)):
            try:
                text = _page_text(pdf, number)
            except pypdfium2.PdfiumError as error:
                rejects.add(piece.location, number + 1, RefusedError("damaged page", f"page {number + 1}: {error}"))
                continue
            size += len(text.encode(errors="replace"))
            if size > max_bytes:
                raise RefusedError("too large", f"{size} bytes of text and more; at most {max_bytes} are taken")
            texts.append(text)
        if not any(texts):
            raise RefusedError("no text", f"none of {len(pdf)} pages has text: scanned pages need OCR first")
        title = _printable(pdf.get_metadata_value("Title"))
        return Document(piece.name, "\n\n".join(filter(None, texts)), title, piece.source, {"pages": len(pdf)})
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


def _printable(title: str) -> str:
    return " ".join(title.replace("\0", " ").split())
