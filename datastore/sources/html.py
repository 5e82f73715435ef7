"""HTML: a page's title and main text, by Resiliparse (parsing as browsers do, in Rust)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from datastore.config import InputConfig
from datastore.documents import Document
from datastore.sources.found import Found, Piece, whole
from datastore.sources.places import read_file
from datastore.sources.rejects import Rejects

MAX_DEPTH = 256
"""Deeper pages come whole: telling main text from the rest takes time with the square of the depth."""
_LEAST_SHARE = 0.05
"""Where less than this of a page's text looks like its main text, the guess is taken for wrong: all of it comes."""
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)([^<>]*>)?")
_LEAVES = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"}
    | {"p", "li", "dt", "dd", "tr", "td", "th", "option", "tbody", "thead"}
)
"""Elements that hold nothing, or that the next of their kind ends."""


class Page(NamedTuple):
    title: str
    text: str


class HtmlFile:
    """Pages in files, one document each, named as the file."""

    pieces = staticmethod(whole)

    def read(self, piece: Piece, rejects: Rejects, config: InputConfig) -> Iterator[Found]:
        content = read_file(piece.location, rejects, config.max_document_bytes)
        if content is not None:
            page = read_page(content)
            yield Found(Document(piece.name, page.text, page.title, piece.source), piece.location, 1)


def read_page(content: bytes, charset: str | None = None) -> Page:
    """Title and main text of a page: without navigation, headers and footers, scripts and styles. Paragraphs, list
    items and preformatted text keep their lines. A page without a recognizable main part comes whole.

    Args:
        charset: as its server named it; else the page's own, else what its bytes look like.
    """
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding
    from resiliparse.parse.html import HTMLTree

    encoding = charset or detect_encoding(content, from_html_meta=True)
    try:
        html = bytes_to_str(content, encoding)
    except LookupError:  # a server may name anything
        html = bytes_to_str(content, detect_encoding(content, from_html_meta=True))
    tree = HTMLTree.parse(html)
    everything = extract_plain_text(tree)
    text = everything if _is_deep(html) else extract_plain_text(tree, main_content=True)
    if len(text) < _LEAST_SHARE * len(everything) or not text.strip():
        text = everything
    return Page(" ".join((tree.title or "").split()), text.strip())


def _is_deep(html: str) -> bool:
    if html.count("<") <= MAX_DEPTH:
        return False
    depth = 0
    for tag in _TAG.finditer(html):
        closes, name, rest = tag.groups("")
        if rest.endswith("/>") or name.lower() in _LEAVES:
            continue
        depth = max(0, depth - 1) if closes else depth + 1
        if depth > MAX_DEPTH:
            return True
    return False
