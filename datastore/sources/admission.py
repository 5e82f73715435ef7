"""What every document must satisfy, wherever it comes from."""

from __future__ import annotations

from hashlib import blake2b

from datastore.documents import Document, Passage
from datastore.sources.rejects import RefusedError

MAX_ID_BYTES = 512
ID_DIGEST_BYTES = 16


class Admission:
    """Checks documents one by one, and that no id comes twice.

    Of each admitted id a digest is kept, about 130 bytes of memory a document (130 MB a million).
    """

    def __init__(self) -> None:
        self._admitted: set[bytes] = set()

    def check(self, document: Document) -> None:
        """Admit `document`, or raise RefusedError. Of two documents with the same id the first is admitted."""
        digest = check_document(document)
        if digest in self._admitted:
            raise duplicate_id(document.document_id)
        self._admitted.add(digest)


def check_document(document: Document) -> bytes:
    """What a document must satisfy by itself; returns the digest of its id.

    It has 16 bytes, of BLAKE2b: two different ids share one with a probability below 1e-14 for a trillion documents.

    Raises:
        RefusedError: it does not.
    """
    identifier = check_characters(document)
    if not (document.text.strip() or document.title.strip()):
        raise RefusedError("no text", "text and title are blank")
    return blake2b(identifier, digest_size=ID_DIGEST_BYTES).digest()


def check_characters(document: Document | Passage) -> bytes:
    """The bytes of its id; RefusedError where that is none, or something in it cannot be stored as UTF-8."""
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
    return identifier


def duplicate_id(document_id: str) -> RefusedError:
    return RefusedError("duplicate id", f"a document {document_id!r} came before")


def _require_unicode(value: str) -> None:
    if not value.isascii():
        value.encode()
