"""JSON Lines: one document a line, in the shapes that corpora have (BEIR's and Dolma's among them)."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from datastore.config import InputConfig
from datastore.sources.found import Found, Piece
from datastore.sources.lines import Span, cut_lines, is_compressed, read_lines
from datastore.sources.records import document_of, kind_of
from datastore.sources.rejects import RefusedError, Rejects, not_utf8


class JsonLines:
    """Files of JSON objects, one a line, plain or compressed; a plain one comes in pieces of whole lines.

    What becomes of the fields: `document_of`. NaN and infinity are null. A document without an id gets
    `<name>:<line number>`.
    """

    def pieces(self, whole: Piece, target_bytes: int) -> Iterator[Piece]:
        if is_compressed(whole.location):
            yield whole
            return
        for span in cut_lines(whole.location, target_bytes):
            yield replace(whole, start=span.start, stop=span.stop, first=span.first, size=(span.stop or 0) - span.start)

    def read(self, piece: Piece, rejects: Rejects, config: InputConfig) -> Iterator[Found]:
        file = piece.location
        span = None if piece.stop is None else Span(piece.start, piece.stop, piece.first)
        for line in read_lines(file, config.max_document_bytes, span):
            content = line.content.removeprefix(codecs.BOM_UTF8) if line.number == 1 else line.content
            try:
                if line.refused is not None:
                    raise line.refused
                if not content.strip():
                    continue
                document = document_of(parse_object(content), f"{piece.name}:{line.number}", piece.source, config)
            except RefusedError as refused:
                rejects.add(file, line.number, refused, content)
                continue
            yield Found(document, file, line.number)


def parse_object(content: bytes) -> dict[str, Any]:
    """The JSON object in `content`. Raises RefusedError."""
    try:
        record = _DECODER.decode(content.decode())
    except UnicodeDecodeError as error:
        raise not_utf8(content, error.start) from error
    except json.JSONDecodeError as error:
        raise RefusedError("not JSON", f"{error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise RefusedError("not JSON", "nested too deeply") from error
    except ValueError as error:
        raise RefusedError("not JSON", str(error)) from error  # an integer of thousands of digits
    if not isinstance(record, dict):
        raise RefusedError("not an object", f"the line is {kind_of(record)}; wanted an object")
    return record


def _finite(literal: str) -> float | None:
    value = float(literal)
    return value if math.isfinite(value) else None


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=lambda _: None)
