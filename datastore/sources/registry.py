"""Which source reads what: by name, as pieces keep it, and by the extension of a file."""

from __future__ import annotations

from datastore.sources.found import Source
from datastore.sources.html import HtmlFile
from datastore.sources.hub import HubDataset
from datastore.sources.jsonl import JsonLines
from datastore.sources.parquet import ArrowFiles, ParquetFiles
from datastore.sources.pdf import PdfFile
from datastore.sources.python_docs import PythonDocs
from datastore.sources.text_file import TextFile
from datastore.sources.warc import WarcFile

SOURCES: dict[str, Source] = {
    "arrow": ArrowFiles(),
    "html": HtmlFile(),
    "hub": HubDataset(),
    "jsonl": JsonLines(),
    "parquet": ParquetFiles(),
    "pdf": PdfFile(),
    "pydoc": PythonDocs(),
    "text": TextFile(),
    "warc": WarcFile(),
}

EXTENSIONS: dict[str, str] = {
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".jsonl.zst": "jsonl",
    ".json.gz": "jsonl",
    ".json.zst": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".md": "text",
    ".markdown": "text",
    ".txt": "text",
    ".html": "html",
    ".htm": "html",
    ".pdf": "pdf",
    ".warc": "warc",
    ".warc.gz": "warc",
    ".warc.zst": "warc",
    ".wet.gz": "warc",
}


def source_for(name: str) -> str | None:
    """The name of the source for a file: that of `.jsonl.gz` for `a.b.jsonl.gz`, in any case."""
    parts = name.lower().rsplit("/", 1)[-1].lstrip(".").split(".")
    return EXTENSIONS.get("." + ".".join(parts[-2:]) if len(parts) > 2 else "") or (
        EXTENSIONS.get(f".{parts[-1]}") if len(parts) > 1 else None
    )
