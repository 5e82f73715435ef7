"""Which source reads what: by name, as pieces keep it, and by the extension of a file."""

from __future__ import annotations

from datastore.sources.found import Source
from datastore.sources.jsonl import JsonLines
from datastore.sources.python_docs import PythonDocs
from datastore.sources.text_file import TextFile

SOURCES: dict[str, Source] = {"jsonl": JsonLines(), "text": TextFile(), "pydoc": PythonDocs()}

EXTENSIONS: dict[str, str] = {
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".jsonl.zst": "jsonl",
    ".json.gz": "jsonl",
    ".json.zst": "jsonl",
    ".md": "text",
    ".txt": "text",
}


def source_for(name: str) -> str | None:
    """The name of the source for a file: that of `.jsonl.gz` for `a.b.jsonl.gz`, in any case."""
    parts = name.lower().rsplit("/", 1)[-1].lstrip(".").split(".")
    return EXTENSIONS.get("." + ".".join(parts[-2:]) if len(parts) > 2 else "") or (
        EXTENSIONS.get(f".{parts[-1]}") if len(parts) > 1 else None
    )
