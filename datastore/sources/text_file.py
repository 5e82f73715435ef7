"""Plain text and Markdown: one document a file."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datastore.documents import Document
from datastore.errors import DataLoss
from datastore.sources.found import Found
from datastore.sources.rejects import EXCERPT_CHARACTERS, RefusedError, Rejects


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file that is one document, whole and unchanged. It has no title: what would be one stands in the text."""

    path: Path
    name: str
    """The document's id."""
    source: str

    def read(self, rejects: Rejects, max_document_bytes: int) -> Iterator[Found]:
        file = str(self.path)
        try:
            with self.path.open("rb") as stream:
                content = stream.read(max_document_bytes + 1).removeprefix(codecs.BOM_UTF8)
                size = self.path.stat().st_size
        except OSError as error:
            raise DataLoss(
                f"{file} cannot be read: {error.strerror}", mend="make the file readable and run again"
            ) from error
        if size > max_document_bytes:
            refused = RefusedError("too large", f"{size} bytes; at most {max_document_bytes} are taken")
            rejects.add(file, 1, refused, content[: 4 * EXCERPT_CHARACTERS])
            return
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            start = content.rfind(b"\n", 0, error.start) + 1
            refused = RefusedError(
                "not UTF-8", f"byte {error.start - start + 1} of the line is 0x{content[error.start]:02x}"
            )
            rejects.add(file, line, refused, content[start:].partition(b"\n")[0])
            return
        yield Found(Document(self.name, text, source=self.source), file, 1)
