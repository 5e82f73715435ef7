"""What every document must satisfy, wherever it comes from."""

from __future__ import annotations

from hashlib import blake2b

from datastore.documents import Document
from datastore.sources.rejects import RefusedError

MAX_ID_BYTES = 512


class Admission:
    """Checks documents one by one, and that no id comes twice.

    Of each admitted id a 16-byte BLAKE2b digest is kept, about 130 bytes of memory a document (130 MB a million); two
    different ids share one with a probability below 1e-14 for a trillion documents.
    """

    def __init__(self) -> None:
        self._admitted: set[bytes] = set()

    def check(self, document: Document) -> None:
        """Admit `document`, or raise RefusedError. Of two documents with the same id the first is admitted."""
        try:
            identifier = document.document_id.encode()
            for value in (document.text, document.title, document.source):
                _require_unicode(value)
            for name, attribute in document.attributes.items():
                _require_unicode(name)
                if isinstance(attribute, str):
                    _require_unicode(attribute)
        except UnicodeEncodeError as error:
            raise RefusedError("lone surrogate", f"U+{ord(error.object[error.start]):04X} is no character") from error
        if not document.document_id.strip():
            raise RefusedError("bad id", "the id is blank; wanted at least one character")
        if len(identifier) > MAX_ID_BYTES:
            raise RefusedError("bad id", f"the id has {len(identifier)} bytes; at most {MAX_ID_BYTES} are taken")
        if b"\0" in identifier:
            raise RefusedError("bad id", f"the id {document.document_id!r} contains a NUL character")
        if not (document.text.strip() or document.title.strip()):
            raise RefusedError("no text", "text and title are blank")
        digest = blake2b(identifier, digest_size=16).digest()
        if digest in self._admitted:
            raise RefusedError("duplicate id", f"a document {document.document_id!r} came before")
        self._admitted.add(digest)


def _require_unicode(value: str) -> None:
    if not value.isascii():
        value.encode()
