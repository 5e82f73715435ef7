"""Plain text and Markdown: one document a file."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from datastore.config import InputConfig
from datastore.documents import Document
from datastore.sources.found import Found, Piece, whole
from datastore.sources.places import read_file
from datastore.sources.rejects import Rejects, not_utf8


class TextFile:
    """Files that are one document each, whole and unchanged, named as the file. They have no title: what would be one
    stands in the text."""

    pieces = staticmethod(whole)

    def read(self, piece: Piece, rejects: Rejects, config: InputConfig) -> Iterator[Found]:
        content = read_file(piece.location, rejects, config.max_document_bytes)
        if content is None:
            return
        content = content.removeprefix(codecs.BOM_UTF8)
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            number = content.count(b"\n", 0, error.start) + 1
            start = content.rfind(b"\n", 0, error.start) + 1
            line = content[start:].partition(b"\n")[0]
            rejects.add(piece.location, number, not_utf8(line, error.start - start), line)
            return
        yield Found(Document(piece.name, text, source=piece.source), piece.location, 1)
