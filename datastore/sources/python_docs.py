"""The documentation of the installed Python, as an input: text that is on every machine that runs this.

    pydoc:                     all of it
    pydoc:500                  500 documents of it: the language reference, then the longest of the rest
    pydoc:json,asyncio         these modules and what is below them
    pydoc:100,json,asyncio     both

One document is a topic of the language reference (where the installation has it: `pydoc_data.topics`), a module, a
class with its methods, or a function. Topics come first, then modules with Python source, then compiled modules, each
by name. The title is the public name, such as `asyncio.Queue`, or a topic's heading; the id is `pydoc:asyncio.Queue` or
`pydoc:topic:with`; the attribute `kind` is topic, module, class or function. Source files are read and not run.
"""

from __future__ import annotations

import heapq
import importlib
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datastore.config import InputConfig
from datastore.documents import Document
from datastore.errors import InvalidArgument, NotFound
from datastore.sources.found import Found, Piece, whole
from datastore.sources.python_compiled import COMPILED_MODULES, available_modules, compiled_entries
from datastore.sources.python_source import Entry, ModuleFile, SourceReader, find_modules
from datastore.sources.rejects import RefusedError, Rejects

PREFIX = "pydoc:"


class PythonDocs:
    """Reads the documentation that an input such as `pydoc:json` names; its location is the input itself."""

    pieces = staticmethod(whole)

    def read(self, piece: Piece, rejects: Rejects, config: InputConfig) -> Iterator[Found]:
        return Selection.parse(piece.location).read(rejects, config.max_document_bytes)


@dataclass(frozen=True, slots=True)
class Selection:
    """What of the documentation is wanted."""

    modules: tuple[str, ...] = ()
    """Only these and what is below them; empty means everything."""
    limit: int | None = None
    """At most this many documents."""

    @classmethod
    def parse(cls, value: str) -> Selection:
        """What an input such as `pydoc:100,json` means.

        Raises:
            InvalidArgument: the limit is 0, or there are two.
            NotFound: the library has no such module.
        """
        items = [item.strip() for item in value.removeprefix(PREFIX).split(",") if item.strip()]
        limits = [int(item) for item in items if item.isdecimal()]
        if len(limits) > 1 or 0 in limits:
            raise InvalidArgument(
                f"{value!r} has the limits {limits}; wanted one number above 0, or none",
                mend="write pydoc:500, or pydoc:500,json",
                field="input",
            )
        modules = tuple(item for item in items if not item.isdecimal())
        known = {module.public_name for module in _library()} | {COMPILED_MODULES[name] for name in available_modules()}
        for name in modules:
            if name not in known:
                raise NotFound(
                    f"the installed Python's library has no module {name!r} to document",
                    mend="name modules of the standard library, or write pydoc: for all",
                    field="input",
                )
        return cls(modules, limits[0] if limits else None)

    def read(self, rejects: Rejects, max_document_bytes: int) -> Iterator[Found]:
        found = (entry for entry in self._entries(rejects) if _fits(entry, max_document_bytes, rejects))
        if self.limit is not None:
            numbered = heapq.nlargest(
                self.limit, enumerate(found), key=lambda at: (at[1].kind == "topic", len(at[1].text))
            )
            found = (entry for _, entry in sorted(numbered))
        for entry in found:
            yield Found(_document(entry), entry.file, entry.line)

    def _entries(self, rejects: Rejects) -> Iterator[Entry]:
        if not self.modules:
            yield from _topics()
        seen: set[str] = set()
        for entry in self._module_entries(rejects):
            if entry.name not in seen:  # defined once for each platform, or in Python and again compiled
                seen.add(entry.name)
                yield entry

    def _module_entries(self, rejects: Rejects) -> Iterator[Entry]:
        library = _library()
        reader = SourceReader(library)
        for module in library:
            if self._wanted(module.public_name):
                try:
                    yield from reader.entries(module)
                except RefusedError as refused:
                    rejects.add(str(module.path), 0, refused)
        for name in available_modules():
            if self._wanted(COMPILED_MODULES[name]):
                yield from compiled_entries(name)

    def _wanted(self, module: str) -> bool:
        return not self.modules or any(module == name or module.startswith(f"{name}.") for name in self.modules)


def _library() -> list[ModuleFile]:
    return find_modules(Path(sysconfig.get_path("stdlib")), sorted(sys.stdlib_module_names))


def _topics() -> Iterator[Entry]:
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ModuleNotFoundError:  # left out of some installations
        return
    for name, text in sorted(topics.items()):
        yield Entry("topic", name, text.strip(), "pydoc_data.topics")


def _fits(entry: Entry, max_bytes: int, rejects: Rejects) -> bool:
    size = len(entry.text.encode())
    if size > max_bytes:
        refused = RefusedError("too large", f"{entry.name} has {size} bytes; at most {max_bytes} are taken")
        rejects.add(entry.file, entry.line, refused, entry.text)
    return size <= max_bytes


def _document(entry: Entry) -> Document:
    identifier, title, text = entry.name, entry.name, entry.text
    if entry.kind == "topic":
        heading, _, rest = text.partition("\n")
        underline, _, body = rest.partition("\n")
        identifier = f"topic:{entry.name}"
        if set(underline) in ({"*"}, {"="}, {"-"}):
            title, text = heading, body.strip()
    return Document(f"{PREFIX}{identifier}", text, title, "pydoc", {"kind": entry.kind})
